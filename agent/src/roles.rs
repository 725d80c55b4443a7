//! What a member's state leads to outside of the daemon: a number in the track file, for keepalived and its like; hooks; a
//! mark in the state directory that this member was asked to be down, for the next start.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::config::Config;
use crate::control::answer::members::{Done, RolesAnswer, RolesRequest};
use crate::core::Core;
use crate::core::roles::state_name;
use crate::hooks::{Call, Hooks};
use crate::track_file::TrackFile;
use ccp::election::{State, StateChange, Why};
use ccp::time::Instant;
use tracing::{error, info, warn};

/// Present while this member is to be down also after a restart.
const DOWN_MARK: &str = "down";
/// Has the files and the hooks follow what this member is.
#[derive(Debug)]
pub struct RoleEffects {
    track_file: TrackFile,
    state_directory: PathBuf,
    hooks: Option<Hooks>,
    name: String,
}

impl RoleEffects {
    /// Writes the track file for the first time; an error is that of writing it.
    pub fn start(config: &Config) -> io::Result<Self> {
        let state_directory = config.state_directory.clone();
        if !state_directory.exists() {
            // If it cannot be made the check says so.
            let _ = fs::create_dir(&state_directory);
        }
        let effects = Self {
            track_file: TrackFile::new(config.roles.track_file.clone()),
            state_directory,
            hooks: Hooks::start(config)?,
            name: config.this.name.clone(),
        };
        effects.track_file.write(State::Init)?;
        Ok(effects)
    }

    /// Whether the operator asked this member to be down before this start.
    pub fn was_asked_down(config: &Config) -> bool {
        config.state_directory.join(DOWN_MARK).exists()
    }

    /// This member has become something else, for `why`.
    pub fn handle_change(&self, change: &StateChange, why: &str) {
        let (from, to) = (state_name(change.from), state_name(change.to));
        match change.to {
            // Who only waits for another to take the role over is not the last resort.
            State::Attention if !matches!(change.why, Why::Until(_)) => error!(
                event = "role",
                from,
                "no member is fit: this one, {}, is active all the same: {why}; mend what it lacks",
                self.name
            ),
            State::Down | State::Attention if change.why != Why::Leaving => {
                warn!(event = "role", from, to, "this member is {to}: {why}");
            }
            State::Down
            | State::Init
            | State::Standby
            | State::Ready
            | State::Active
            | State::Attention => {
                info!(event = "role", from, to, "this member is {to}: {why}");
            }
        }
        if let Err(error) = self.track_file.write(change.to) {
            let file = self.track_file.path().display();
            error!(event = "track-file", %error, "cannot write the track file {file}: keepalived does not learn that this member is {to}");
        }
        if let Some(hooks) = &self.hooks {
            hooks.run(Call {
                from,
                to,
                why: why.to_owned(),
            });
        }
    }

    /// Ends when hooks have run on every change; calls `alive` each second meanwhile.
    pub fn finish(self, alive: impl FnMut()) {
        if let Some(hooks) = self.hooks {
            hooks.finish(alive);
        }
    }

    /// Does what the operator asks for, and what has to outlive this run.
    pub fn handle_request(
        &self,
        core: &mut Core,
        request: RolesRequest,
        now: Instant,
    ) -> RolesAnswer {
        let mark = self.state_directory.join(DOWN_MARK);
        let kept = match &request {
            RolesRequest::Down { persist: true } => fs::write(&mark, ""),
            RolesRequest::Up => match fs::remove_file(&mark) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
            RolesRequest::Down { persist: false }
            | RolesRequest::Members
            | RolesRequest::Drain { .. }
            | RolesRequest::CheckIn { .. } => Ok(()),
        };
        match kept {
            Ok(()) => core.handle_roles_request(request, now),
            Err(error) => RolesAnswer::Done(Done {
                refused: Some(format!(
                    "nothing was changed, as {} cannot be written ({error}); without --persist it need not be",
                    mark.display()
                )),
            }),
        }
    }
}
