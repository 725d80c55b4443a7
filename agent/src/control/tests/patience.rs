//! Who is too many, too slow or gone.

use super::*;

#[test]
fn seventeenth_client_is_turned_away_until_one_leaves() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut seated: Vec<_> = (0..CLIENTS_MAX)
        .map(|_| Client::connect(&daemon.path).unwrap())
        .collect();
    for client in &mut seated {
        client.status().unwrap();
    }
    let refusal = Client::connect(&daemon.path).unwrap().status().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the daemon refused: 16 clients are connected: try again later"
    );
    seated.pop();
    eventually("a place is free", || {
        Client::connect(&daemon.path).unwrap().status().is_ok()
    });
}

#[test]
fn client_that_says_nothing_is_put_out() {
    let daemon = Daemon::start(
        Patience {
            request: SHORT,
            ..PATIENT
        },
        answer,
    );
    let mut client = daemon.connect();
    assert_eq!(
        line(&mut client),
        "{\"error\":\"no request came for too long\"}\n"
    );
    assert_eq!(line(&mut client), "");
}

#[test]
fn client_that_does_not_read_loses_its_place() {
    let endless = |ask| match ask {
        Ask::Status(answer) => answer.send(status()).unwrap_or_default(),
        Ask::Flows {
            from,
            limit,
            answer,
        } => {
            let rows = (0..u32::try_from(limit).unwrap()).map(row).collect();
            answer
                .send(FlowPage {
                    rows,
                    next: Some(Cursor(from.0 + 1)),
                })
                .unwrap_or_default();
        }
        other => panic!("nobody asks for that: {other:?}"),
    };
    let daemon = Daemon::start(
        Patience {
            write: SHORT,
            ..PATIENT
        },
        endless,
    );
    let mut stuck: Vec<_> = (0..CLIENTS_MAX).map(|_| daemon.connect()).collect();
    for client in &mut stuck {
        client
            .get_mut()
            .write_all(b"{\"verb\":\"flows\"}\n")
            .unwrap();
    }
    eventually("a place is free", || {
        Client::connect(&daemon.path).unwrap().status().is_ok()
    });
}

#[test]
fn a_round_of_the_audit_may_take_longer_than_an_answer() {
    let (mut rounds, mut unanswered) = (Vec::new(), Vec::new());
    let mut meanwhile = 0;
    let daemon = Daemon::start(
        Patience {
            driver: SHORT,
            ..PATIENT
        },
        move |ask| match ask {
            Ask::AuditNow(_) => rounds.push(ask),
            _ => {
                unanswered.push(ask);
                meanwhile += rounds.len();
                if meanwhile > 3 {
                    rounds.drain(..).for_each(answer);
                }
            }
        },
    );
    thread::scope(|scope| {
        let audit = scope.spawn(|| Client::connect(&daemon.path).unwrap().audit_now());
        while !audit.is_finished() {
            let status = Client::connect(&daemon.path).unwrap().status();
            assert!(status.is_err(), "nobody answers that in time");
        }
        assert_eq!(audit.join().unwrap().unwrap(), report());
    });
}

#[test]
fn driver_that_does_not_answer_is_reported() {
    let mut kept = Vec::new();
    let daemon = Daemon::start(
        Patience {
            driver: SHORT,
            ..PATIENT
        },
        move |ask| kept.push(ask),
    );
    let refusal = Client::connect(&daemon.path).unwrap().status().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the daemon refused: the daemon is too busy to answer"
    );
}

#[test]
fn driver_that_is_gone_is_reported() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let (sender, asks) = asks();
    drop(asks);
    let _server = Server::start(&path, Box::new(|| ()), sender).unwrap();
    let refusal = Client::connect(&path).unwrap().status().unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "the daemon refused: the daemon is stopping"
    );
}

#[test]
fn without_a_daemon_the_client_says_what_to_look_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let expected = format!(
        "no daemon answers at {}: is it running? See `systemctl status ctsync`",
        path.display()
    );
    assert_eq!(Client::connect(&path).unwrap_err().to_string(), expected);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(Client::connect(&path).unwrap_err().to_string(), expected);
}

#[test]
fn answer_of_a_stranger_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let stranger = thread::spawn(move || {
        for answer in [
            "{\"hello\":1}\n",
            "no json\n",
            "{\"end\":{\"count\":5}}\n",
            "{\"cut\":",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            line(&mut BufReader::new(&stream));
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let ask = || Client::connect(&path).unwrap();
    assert!(matches!(ask().status(), Err(ClientError::Garbled { .. })));
    assert!(matches!(ask().status(), Err(ClientError::Garbled { .. })));
    assert!(
        matches!(
            ask().flows().unwrap().next(),
            Some(Err(ClientError::Io { .. }))
        ),
        "five were promised"
    );
    assert!(matches!(ask().status(), Err(ClientError::Io { .. })));
    stranger.join().unwrap();
}
