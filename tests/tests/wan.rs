//! A sync network with 100 ms and 5 % loss each way: the tables are equal all the same, nothing stalls, and the members
//! say what the matter is.

use std::time::Duration;

use serde_json::Value;

use tests::arrivals::{Arrivals, open_flows};
use tests::cluster::{Cluster, Settings};
use tests::lab::Lab;
use tests::netns::{DEADLINE, wait_until};
use tests::table::wait_equal;
use tests::wan::Wan;

/// The settings that the document advises.
fn advised() -> &'static str {
    let text = include_str!("../../packaging/doc/wan.md");
    let block = text
        .split("```")
        .nth(1)
        .and_then(|it| it.strip_prefix("yaml\n"));
    let lines = block.expect("it has one").lines();
    let lines = lines.map(|it| format!("{}\n", it.strip_prefix("  ").unwrap_or(it)));
    lines.collect::<String>().leak()
}

#[test]
fn a_hundred_milliseconds_and_five_percent_loss_lose_nothing_and_are_told() {
    let lab = Lab::new(2);
    let settings = Settings {
        more: advised(),
        ..Settings::default()
    };
    let cluster = Cluster::start_with(&lab, settings);
    let length = Duration::from_millis(100);
    let ways = (lab.gateways.iter()).map(|it| Wan::before(it, "sync0", length, 20));
    let _ways: Vec<_> = ways.collect();

    let arrivals = Arrivals::listen(&lab.gateways[1], "10.0.0.100");
    let flows = open_flows(&lab, Duration::from_secs(8));
    wait_until("every flow has arrived", DEADLINE, || {
        flows.iter().all(|it| arrivals.of(it.port()).is_some())
    });
    wait_equal(&lab.gateways, DEADLINE);
    let mut delays: Vec<_> = (flows.iter())
        .filter_map(|it| Some(arrivals.of(it.port())?.saturating_duration_since(it.sent)))
        .collect();
    delays.sort();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    println!("{} flows, median {median:?}, worst {worst:?}", delays.len());
    assert!(median >= length, "{median:?}");
    assert!(worst < Duration::from_secs(3), "{worst:?}");

    for member in &cluster.members {
        let mut stat = Value::Null;
        wait_until("the quality of the way is told", DEADLINE, || {
            stat = member.answer(&["syncstat"]);
            let path = &stat["peers"][0]["networks"][0];
            let rtt = path["rtt_us"].as_u64().unwrap_or(0);
            (200_000..400_000).contains(&rtt)
                && path["loss_in_permille"]
                    .as_u64()
                    .is_some_and(|it| (20..100).contains(&it))
                && path["degraded"] == true
        });
        let warning = stat["warnings"][0].as_str().unwrap_or_default();
        assert!(
            warning.starts_with("degraded: wan-quality: to gw-"),
            "{stat:#}"
        );
        assert!(!member.log().contains("peer is dead"));
    }
}
