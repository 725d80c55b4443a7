use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

/// The key of RFC 8410 section 10.3, and its public half.
const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";

/// A file with this content and mode, in a directory that goes with it.
struct Written {
    directory: tempfile::TempDir,
}

impl Written {
    fn new(content: impl AsRef<[u8]>, mode: u32) -> Self {
        let written = Self::nothing();
        fs::write(written.path(), content).unwrap();
        fs::set_permissions(written.path(), Permissions::from_mode(mode)).unwrap();
        written
    }

    fn nothing() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("member.key")
    }

    /// What is said of it, with the path left out.
    fn refusal(&self) -> String {
        self.said(&MemberKey::load(&self.path()).unwrap_err())
    }

    fn said(&self, error: &KeyError) -> String {
        error
            .to_string()
            .replace(self.path().to_str().unwrap(), "FILE")
    }
}

#[test]
fn the_key_of_the_rfc_has_the_public_half_of_the_rfc() {
    for content in [PEM.to_owned(), PEM.replace('\n', "\r\n"), PEM.trim().into()] {
        let key = MemberKey::load(&Written::new(content, 0o600).path()).unwrap();
        assert_eq!(key.public().to_string(), PUBLIC);
    }
}

#[test]
fn a_key_that_was_made_is_read_again_and_is_like_no_other() {
    let (one, other) = (Written::nothing(), Written::nothing());
    let made = MemberKey::create(&one.path()).unwrap();
    assert_eq!(
        MemberKey::load(&one.path()).unwrap().public(),
        made.public()
    );
    let mode = fs::metadata(one.path()).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let other = MemberKey::create(&other.path()).unwrap();
    assert_ne!(made.public(), other.public());
}

#[test]
fn a_key_that_is_there_is_not_overwritten() {
    let written = Written::new("precious", 0o600);
    let error = MemberKey::create(&written.path()).unwrap_err();
    assert_eq!(
        written.said(&error),
        "FILE: there is a file already, which may be a key in use; \
         see its public half with `ctsync keygen --public FILE`, or remove it first"
    );
    assert_eq!(fs::read(written.path()).unwrap(), b"precious");
}

#[test]
fn a_key_in_no_directory_cannot_be_written() {
    let written = Written::nothing();
    let path = written.path().join("member.key");
    let error = MemberKey::create(&path).unwrap_err();
    assert_eq!(
        written.said(&error),
        "FILE/member.key: the key cannot be written (No such file or directory (os error 2)); \
         make its directory, or name another file with --out"
    );
}

#[test]
fn openssl_reads_the_key_and_finds_the_same_public_half() {
    let written = Written::nothing();
    let key = MemberKey::create(&written.path()).unwrap();
    let output = std::process::Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(written.path())
        .output();
    let Ok(output) = output else {
        println!("skipped: openssl is not installed");
        return;
    };
    assert_eq!(output.stdout[12..], *key.public().bytes(), "{output:?}");
}

#[test]
fn key_is_not_printed() {
    let key = MemberKey::load(&Written::new(PEM, 0o400).path()).unwrap();
    assert_eq!(
        format!("{key:?}"),
        format!("MemberKey {{ public: PublicKey({PUBLIC}), .. }}")
    );
}

#[test]
fn missing_key_says_how_to_make_one() {
    assert_eq!(
        Written::nothing().refusal(),
        "FILE: there is no such file, and a member proves with its key who it is; \
         make one with `ctsync keygen --out FILE`, and write what it prints into `members` everywhere"
    );
}

#[test]
fn key_that_others_can_touch_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        assert_eq!(
            Written::new(PEM, mode).refusal(),
            format!(
                "FILE: the key is open to others than its owner (mode {mode:04o}); run `chmod 600 FILE`"
            )
        );
    }
}

#[test]
fn anything_but_a_key_is_refused_and_not_repeated() {
    let contents = [
        "",
        "\n",
        &PEM[1..],
        &PEM[..PEM.len() - 2],
        &PEM.replace("MC4", "MC5"),
        &PEM.replace("VhC", "Vh"),
        &PEM.replace("PRIVATE", "PUBLIC"),
        &format!("{PEM}{PEM}"),
        &"A".repeat(100_000),
        "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
    ];
    for content in contents {
        assert_eq!(
            Written::new(content, 0o600).refusal(),
            "FILE: this is not an Ed25519 key in PEM (PKCS#8); move it away, \
             make another with `ctsync keygen --out FILE`, and write what it prints into `members` everywhere",
            "{content:?}"
        );
    }
}

#[test]
fn fifo_is_refused_and_not_waited_for() {
    let written = Written::nothing();
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(written.path())
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(
        written.refusal(),
        "FILE: this is not a regular file; name the file that holds the key with `key_file`"
    );
}

#[test]
fn what_systemd_passes_stands_in_for_the_default_and_for_nothing_else() {
    let (passed, nothing) = (Written::new(PEM, 0o400), Written::nothing());
    let directory = |written: &Written| Some(written.directory.path().to_owned());
    let default = Path::new(DEFAULT_FILE);
    assert_eq!(credential(default, directory(&passed)), passed.path());
    assert_eq!(credential(default, directory(&nothing)), default);
    assert_eq!(credential(default, None), default);
    let other = Path::new("/etc/other.key");
    assert_eq!(credential(other, directory(&passed)), other);
}

#[test]
fn public_key_is_32_bytes_in_base64_and_nothing_else() {
    assert_eq!(
        PUBLIC.parse::<PublicKey>().map(|key| key.to_string()),
        Ok(PUBLIC.to_owned())
    );
    let refused = |text: &str| text.parse::<PublicKey>().unwrap_err();
    for text in ["member.key", "Gb9E CWmE", &PUBLIC[..43], "ä", "Gb9_"] {
        assert_eq!(refused(text), PublicKeyError::NotBase64, "{text}");
    }
    assert_eq!(refused(""), PublicKeyError::Length { bytes: 0 });
    assert_eq!(refused("Gb9E"), PublicKeyError::Length { bytes: 3 });
    assert_eq!(
        refused(&format!("AAAA{PUBLIC}")),
        PublicKeyError::Length { bytes: 35 }
    );
}
