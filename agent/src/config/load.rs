//! From files to a [`Config`], the key that fits it, and the policy that it names.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{ConfigError, Fault, Problem};
use super::{Config, DEFAULT_POLICY_DIRECTORY, DEFAULT_POLICY_FILE, Policy, file, resolve};
use crate::identity::{self, KeyError, MemberKey};
use crate::policy;

impl Config {
    /// Reads and judges the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&file::read(path)?, path)
    }

    /// Judges `text`; errors name `path` as where it came from.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file = file::parse(text, path)?;
        resolve::resolve(file).map_err(|faults| first(faults).in_file(path))
    }

    /// As [`Self::load`], and the member's key, which has to be the one that the file says.
    pub fn load_with_key(path: &Path) -> Result<(Self, MemberKey), LoadError> {
        let file = file::parse(&file::read(path)?, path)?;
        let places = file.public_key_places();
        let config = resolve::resolve(file).map_err(|faults| first(faults).in_file(path))?;
        let key = config.load_key(&places, path)?;
        Ok((config, key))
    }

    /// All that the daemon loads, or all that is wrong with it: with the configuration, the key and the policy.
    pub fn judge(path: &Path) -> Result<(Self, policy::Policy), Vec<LoadError>> {
        let file = file::read(path).and_then(|text| file::parse(&text, path));
        let file = file.map_err(|error| vec![error.into()])?;
        let places = file.public_key_places();
        let section = resolve::policy::policy(file.policy.clone().unwrap_or_default());
        let mut errors = Vec::new();
        let config = match resolve::resolve(file) {
            Ok(config) => {
                errors.extend(config.load_key(&places, path).err());
                Some(config)
            }
            Err(faults) => {
                let faults = faults.into_iter().map(|fault| fault.in_file(path).into());
                errors.extend(faults);
                None
            }
        };
        let port = (config.as_ref()).map_or(resolve::networks::DEFAULT_PORT, Self::port);
        let policy = (section.files(path)).and_then(|it| policy::Policy::load(&it, port.get()));
        match (config, policy) {
            (Some(config), Ok(policy)) if errors.is_empty() => Ok((config, policy)),
            (_, policy) => {
                errors.extend(policy.err().map(LoadError::from));
                Err(errors)
            }
        }
    }

    /// This member's key. `places` is where the public halves stand in the file at `path`.
    fn load_key(&self, places: &file::Places, path: &Path) -> Result<MemberKey, LoadError> {
        let key_file = identity::file(&self.key_file);
        let key = MemberKey::load(&key_file)?;
        if key.public() == self.this.public_key {
            return Ok(key);
        }
        let fault = Fault {
            place: places.get(&self.this.id.get().into()).copied().flatten(),
            problem: Problem::OtherKey {
                member: self.this.id,
                key_file,
                public_key: key.public(),
            },
        };
        Err(fault.in_file(path).into())
    }

    /// The service policy. `path` is where this configuration is.
    pub fn load_policy(&self, path: &Path) -> Result<policy::Policy, ConfigError> {
        policy::Policy::load(&self.policy.files(path)?, self.port().get())
    }
}

/// The first fault, for callers that report one.
fn first(faults: Vec<Fault>) -> Fault {
    let mut faults = faults.into_iter();
    faults.next().expect("what is refused has a fault")
}

/// Why a member cannot run: its configuration, or its key.
#[derive(Debug)]
pub enum LoadError {
    /// The configuration is wrong.
    Config(ConfigError),
    /// The key is.
    Key(KeyError),
}

impl From<ConfigError> for LoadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<KeyError> for LoadError {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Key(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => error.source(),
            Self::Key(error) => error.source(),
        }
    }
}

impl Policy {
    /// The files of the policy that are there, in the order in which they are read. `path` is where the configuration is.
    fn files(&self, path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
        let beside = path.parent().unwrap_or(Path::new(""));
        let (file, directory) = (beside.join(&self.file), beside.join(&self.directory));
        let unreadable =
            |path: &Path, error| ConfigError::new(path, None, Problem::Unreadable { error });
        let mut files = Vec::new();
        if self.file != Path::new(DEFAULT_POLICY_FILE) || file.exists() {
            files.push(file);
        }
        match std::fs::read_dir(&directory) {
            Ok(entries) => {
                let mut more = Vec::new();
                for entry in entries {
                    let path = entry.map_err(|error| unreadable(&directory, error))?.path();
                    if path.extension().is_some_and(|it| it == "yaml") {
                        more.push(path);
                    }
                }
                more.sort();
                files.extend(more);
            }
            Err(error)
                if error.kind() == std::io::ErrorKind::NotFound
                    && self.directory == Path::new(DEFAULT_POLICY_DIRECTORY) => {}
            Err(error) => return Err(unreadable(&directory, error)),
        }
        Ok(files)
    }
}
