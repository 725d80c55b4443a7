//! What is asked and answered: its form, and what is refused.

use super::*;

#[test]
fn status_is_one_line_of_the_agreed_names() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = daemon.connect();
    client
        .get_mut()
        .write_all(b"{\"verb\":\"status\"}\n")
        .unwrap();
    assert_eq!(line(&mut client).trim_end(), STATUS.replace('\n', ""));
}

#[test]
fn flow_is_one_line_of_the_agreed_names() {
    let expected = concat!(
        r#"{"family":"ipv4","proto":"tcp","orig":{"src":"192.0.2.1","dst":"198.51.100.1","sport":7,"dport":80},"#,
        r#""nat_src":{"addr":"203.0.113.1","port":1024},"nat_dst":null,"state":"ESTABLISHED","timeout":431999,"#,
        r#""mark":0,"zone":0,"origin":"copy","member":2}"#,
    );
    assert_eq!(serde_json::to_string(&row(7)).unwrap(), expected);
}

#[test]
fn client_reads_the_status_that_the_driver_gave() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = Client::connect(&daemon.path).unwrap();
    assert_eq!(client.status().unwrap(), status());
    assert_eq!(client.status().unwrap(), status(), "on the same connection");
}

#[test]
fn flows_come_over_all_pages_and_end_with_their_count() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = Client::connect(&daemon.path).unwrap();
    let rows: Vec<_> = client.flows().unwrap().map(Result::unwrap).collect();
    assert_eq!(rows, (0..FLOWS).map(row).collect::<Vec<_>>());
    assert_eq!(
        client.status().unwrap(),
        status(),
        "the connection is good for more"
    );
}

#[test]
fn socket_for_monitoring_answers_and_changes_nothing() {
    let daemon = Daemon::start_for(Access::Monitoring, PATIENT, answer);
    let mut client = Client::connect(&daemon.path).unwrap();
    assert_eq!(client.status().unwrap(), status());
    assert_eq!(
        client.flows().unwrap().count(),
        usize::try_from(FLOWS).unwrap()
    );
    assert_eq!(
        client.roll_keys().unwrap_err().to_string(),
        "the daemon refused: this socket is for monitoring and changes nothing: be root, or of the group of the control socket"
    );
}

#[test]
fn request_may_come_in_pieces() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = daemon.connect();
    for byte in b"{\"verb\":\"status\"}\n" {
        client.get_mut().write_all(&[*byte]).unwrap();
    }
    assert!(line(&mut client).starts_with(r#"{"version""#));
}

#[test]
fn request_that_is_not_known_is_refused_with_the_reason() {
    let daemon = Daemon::start(PATIENT, answer);
    for (request, reason) in [
        (
            "{\"verb\":\"reboot\"}\n",
            "unknown variant `reboot`, expected one of `status`, `syncstat`, `flows`, `keys-roll`",
        ),
        (
            "{\"verb\":\"status\",\"loud\":true}\n",
            "unknown field `loud`",
        ),
        ("{}\n", "missing field `verb`"),
        ("status\n", "expected value"),
        ("\n", "EOF while parsing"),
    ] {
        let mut client = daemon.connect();
        client.get_mut().write_all(request.as_bytes()).unwrap();
        let answer = line(&mut client);
        assert!(
            answer.starts_with(r#"{"error":"this request is not known: "#),
            "{answer}"
        );
        assert!(answer.contains(reason), "{answer}");
        assert_eq!(line(&mut client), "", "and the connection ends");
    }
}

#[test]
fn request_without_end_is_cut_short() {
    let daemon = Daemon::start(PATIENT, answer);
    let mut client = daemon.connect();
    client.get_mut().write_all(&[b'x'; 1024]).unwrap();
    assert_eq!(
        line(&mut client),
        "{\"error\":\"a request is one line of at most 1024 bytes\"}\n"
    );
    assert_eq!(line(&mut client), "");
}
