//! What killed tests leave behind.

use std::fs;
use std::process::Command;

use tests::leftovers::Directory;
use tests::netns::run;

#[test]
fn what_a_dead_maker_has_left_is_swept_away() {
    let mut maker = Command::new("true").spawn().expect("true starts");
    maker.wait().expect("it ends");
    let name = format!("ctsync-{}-0-left", maker.id());
    let directory = std::env::temp_dir().join(&name);
    run(Command::new("ip").args(["netns", "add", &name]));
    fs::create_dir(&directory).expect("nobody else has the name");

    let living = Directory::new("living");
    assert!(living.path().exists());
    assert!(!directory.exists());
    assert!(!run(Command::new("ip").args(["netns", "list"])).contains(&name));
}
