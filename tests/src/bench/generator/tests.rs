use super::*;

#[test]
fn a_flow_is_found_again_by_its_client() {
    for number in [0, 1, 32_767, 32_768, 1_000_000] {
        let flow = FlowNumber(number);
        let (address, port) = flow.client();
        assert_eq!(FlowNumber::of_client(address, port), Some(flow));
    }
}

#[test]
fn the_client_of_no_flow_is_nobody() {
    assert_eq!(
        FlowNumber::of_client(Ipv4Addr::new(192, 0, 2, 1), CLIENT_PORT_FIRST),
        None
    );
    assert_eq!(
        FlowNumber::of_client(FlowNumber(0).client().0, CLIENT_PORT_FIRST - 1),
        None
    );
    assert_eq!(FlowNumber::of_client(SERVER, CLIENT_PORT_FIRST), None);
}

#[test]
fn checksums_add_up_to_nothing_at_the_receiver() {
    let flow = FlowNumber(77);
    let (client, server) = (flow.client(), flow.server());
    for flags in [SYN, SYN | ACK, ACK] {
        let packet = packet(client, server, 1, 2, flags);
        let (ip, tcp) = packet.split_at(HEADER);
        assert_eq!(checksum(0, ip), 0);
        assert_eq!(
            checksum(pseudo_header(client.0, server.0, tcp.len()), tcp),
            0
        );
    }
}
