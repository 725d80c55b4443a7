use super::{Call, Hooks, Runner, executables};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

fn write(directory: &Path, name: &str, text: &str, mode: u32) {
    let path = directory.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

fn runner(directory: &Path, timeout: Duration) -> Runner {
    Runner {
        directory: directory.to_owned(),
        timeout,
        environment: [
            ("CTSYNC_CLUSTER", "7".into()),
            ("CTSYNC_MEMBER", "1".into()),
            ("CTSYNC_NAME", "gw-a".into()),
        ],
    }
}

fn call() -> Call {
    Call {
        from: "standby",
        to: "active",
        why: "nobody else is there".into(),
    }
}

#[test]
fn hooks_run_by_name_with_what_changed_as_arguments_and_environment() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.txt");
    let script = format!(
        "#!/bin/sh\necho $0 $1 $2 $CTSYNC_FROM $CTSYNC_TO $CTSYNC_CLUSTER $CTSYNC_MEMBER $CTSYNC_NAME $CTSYNC_WHY >> {}\n",
        out.display()
    );
    for (name, mode) in [
        ("20-b", 0o755),
        ("10-a", 0o755),
        ("30-c", 0o644),
        ("x~", 0o755),
    ] {
        write(directory.path(), name, &script, mode);
    }
    let runner = runner(directory.path(), Duration::from_secs(30));
    for hook in executables(directory.path()).unwrap() {
        assert!(runner.execute(&hook, &call()).unwrap().unwrap().success());
    }
    let line = |name| {
        let path = directory.path().join(name);
        format!(
            "{} standby active standby active 7 1 gw-a nobody else is there\n",
            path.display()
        )
    };
    let expected = [line("10-a"), line("20-b")].concat();
    assert_eq!(fs::read_to_string(out).unwrap(), expected);
}

#[test]
fn a_hook_that_takes_too_long_is_killed_with_what_it_started() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "slow", "#!/bin/sh\nsleep 600\n", 0o755);
    let runner = runner(directory.path(), Duration::from_millis(50));
    let began = Instant::now();
    let hook = directory.path().join("slow");
    assert_eq!(runner.execute(&hook, &call()).unwrap(), None);
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn what_cannot_be_run_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "odd", "#!/no/such/interpreter\n", 0o755);
    let runner = runner(directory.path(), Duration::from_secs(1));
    let hook = directory.path().join("odd");
    assert!(runner.execute(&hook, &call()).is_err());
    assert!(executables(&directory.path().join("none")).is_err());
}

#[test]
fn who_ends_waits_until_every_hook_ran_on_every_change() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out.txt");
    let script = format!("#!/bin/sh\necho ${{0##*/}} $2 >> {}\n", out.display());
    for name in ["h1", "h2", "h3"] {
        write(directory.path(), name, &script, 0o755);
    }
    let hooks = Hooks::run_by(runner(directory.path(), Duration::from_secs(30))).unwrap();
    hooks.run(call());
    hooks.run(Call {
        to: "down",
        ..call()
    });
    hooks.finish(|| ());
    let expected = "h1 active\nh2 active\nh3 active\nh1 down\nh2 down\nh3 down\n";
    assert_eq!(fs::read_to_string(out).unwrap(), expected);
}
