//! The simulated cluster under seeded faults: 100 seeds each time, or the one in `CTSYNC_SEED`.
//!
//! More: `CTSYNC_SEEDS=1000..5000 cargo test --release -p tests --test sim one_hundred_seeds`.

use tests::sim;

fn seeds() -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("CTSYNC_SEEDS") else {
        return 0..100;
    };
    let bounds = range
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.expect("CTSYNC_SEEDS is a range like 1000..5000")
}

#[test]
fn one_hundred_seeds_keep_every_promise() {
    let failures: Vec<_> = seeds().filter_map(|seed| sim::run(seed).err()).collect();
    for failure in failures.iter().take(5) {
        println!("{failure}\n");
    }
    let seeds: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "{} seeds failed: {seeds:?}", seeds.len());
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("CTSYNC_SEED") else {
        return;
    };
    let seed = seed.parse().expect("CTSYNC_SEED is a number");
    match sim::run(seed) {
        Ok(report) => println!("{report:?}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 14] {
        let traces = [sim::run(seed), sim::run(seed)]
            .map(|run| run.map(|report| report.trace).map_err(|it| it.to_string()));
        assert_eq!(traces[0], traces[1]);
    }
}
