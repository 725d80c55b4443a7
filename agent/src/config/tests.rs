use super::*;

const GOOD: &str = "\
cluster: 7
member: 1
members:
  - id: 1
    name: gw-a
    addresses: { sync: 192.0.2.1 }
  - id: 2
    name: gw-b
    addresses: { sync: 192.0.2.2 }
networks:
  - name: sync
    interface: eth2
secret_file: /etc/ctsync/cluster.secret
";

#[test]
fn try_it() {
    let config = Config::parse(GOOD, Path::new("t.yaml")).unwrap();
    println!("{}", config.to_yaml());
    println!("{}", config.to_json());
    let again = Config::parse(&config.to_yaml(), Path::new("t.yaml"));
    match again {
        Ok(again) => assert_eq!(again, config),
        Err(e) => panic!("{e}"),
    };
    let again = Config::parse(&config.to_json().to_string(), Path::new("t.yaml")).unwrap();
    assert_eq!(again, config);
}
