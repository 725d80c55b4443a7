use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eFf";

/// A file with this content and mode, in a directory that goes with it.
struct Written {
    directory: tempfile::TempDir,
}

impl Written {
    fn new(content: impl AsRef<[u8]>, mode: u32) -> Self {
        let written = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        fs::write(written.path(), content).unwrap();
        fs::set_permissions(written.path(), Permissions::from_mode(mode)).unwrap();
        written
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("cluster.secret")
    }

    /// What is said of it, with the path left out.
    fn refusal(&self) -> String {
        let error = Secret::load(&self.path()).unwrap_err();
        error
            .to_string()
            .replace(self.path().to_str().unwrap(), "FILE")
    }
}

#[test]
fn sixty_four_digits_are_a_secret_with_or_without_end_of_line() {
    for content in [HEX.to_owned(), format!("{HEX}\n"), format!("{HEX}\r\n")] {
        let secret = Secret::load(&Written::new(content, 0o600).path()).unwrap();
        assert_eq!(secret.bytes()[..3], [0, 1, 2]);
        assert_eq!(secret.bytes()[31], 0xff);
    }
}

#[test]
fn secret_is_not_printed() {
    let secret = Secret::load(&Written::new(HEX, 0o400).path()).unwrap();
    assert_eq!(format!("{secret:?}"), "Secret(..)");
}

#[test]
fn missing_secret_says_how_to_make_one() {
    let written = Written::new(HEX, 0o600);
    fs::remove_file(written.path()).unwrap();
    assert_eq!(
        written.refusal(),
        "FILE: there is no such file, and members prove with it that they belong together; \
         make one on one member with `(umask 077; openssl rand -hex 32 > FILE)` and copy it to the others"
    );
}

#[test]
fn secret_that_others_can_touch_is_refused() {
    for mode in [0o640, 0o604, 0o620, 0o601, 0o777] {
        assert_eq!(
            Written::new(HEX, mode).refusal(),
            format!(
                "FILE: the secret is open to others than its owner (mode {mode:04o}); run `chmod 600 FILE`"
            )
        );
    }
}

#[test]
fn anything_but_64_digits_is_refused_and_not_repeated() {
    let contents = [
        "",
        "\n",
        &HEX[1..],
        &format!("{HEX}0"),
        &format!("{HEX}\n{HEX}\n"),
        &HEX.replace('f', "g"),
    ];
    for content in contents {
        assert_eq!(
            Written::new(content, 0o600).refusal(),
            "FILE: the secret is not 32 bytes in the form of 64 hexadecimal digits; \
             make one on one member with `(umask 077; openssl rand -hex 32 > FILE)` and copy it to the others",
            "{content:?}"
        );
    }
}

#[test]
fn fifo_is_refused_and_not_waited_for() {
    let written = Written::new("", 0o600);
    fs::remove_file(written.path()).unwrap();
    let made = std::process::Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(written.path())
        .status()
        .unwrap();
    assert!(made.success());
    assert_eq!(
        written.refusal(),
        "FILE: this is not a regular file; name the file that holds the secret with `secret_file`"
    );
}
