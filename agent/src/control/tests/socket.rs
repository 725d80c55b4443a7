//! The socket as a file: how it is made, replaced and removed.

use super::*;

#[test]
fn dropped_server_cuts_clients_off_and_removes_the_socket() {
    let Daemon {
        server,
        path,
        _directory,
    } = Daemon::start(PATIENT, answer);
    let mut client = Client::connect(&path).unwrap();
    client.status().unwrap();
    drop(server);
    assert!(!path.exists());
    let error = client.status().unwrap_err().to_string();
    assert!(error.contains("went away"), "{error}");
}

#[test]
fn dropped_server_leaves_the_socket_of_another() {
    let Daemon {
        server,
        path,
        _directory,
    } = Daemon::start(PATIENT, answer);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    drop(server);
    assert!(path.exists());
}

#[test]
fn directory_is_made_and_the_socket_is_for_owner_and_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ctsync/control.sock");
    let _server = Server::start(&path, Box::new(|| ()), asks().0).unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
}

#[test]
fn directory_without_parent_is_refused() {
    assert_eq!(
        start_error(Path::new("/nowhere/at/all.sock")),
        "cannot make the directory of the control socket /nowhere/at/all.sock \
         (No such file or directory (os error 2)); check `control.socket`"
    );
}

#[test]
fn socket_that_nobody_listens_on_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a killed daemon leaves it");
    let _server = Server::start(&path, Box::new(|| ()), asks().0).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn socket_of_a_running_daemon_is_left_alone() {
    let daemon = Daemon::start(PATIENT, answer);
    assert_eq!(
        start_error(&daemon.path),
        format!(
            "another ctsync answers at {}; stop it first, or set `control.socket` to another path",
            daemon.path.display()
        )
    );
    Client::connect(&daemon.path).unwrap().status().unwrap();
}

#[test]
fn file_in_the_place_of_the_socket_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start_error(file.path());
    assert!(
        error.contains("is in the way and not a socket; remove it"),
        "{error}"
    );
    assert!(file.path().exists());
}

fn start_error(path: &Path) -> String {
    Server::start(path, Box::new(|| ()), asks().0)
        .unwrap_err()
        .to_string()
}
