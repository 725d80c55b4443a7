//! The simulated cluster under seeded faults: 100 seeds each time, or the one in `CTSYNC_SEED`, with `CTSYNC_MORE=1` with more
//! trouble, with `CTSYNC_HOLDS=1` with packets that are held.
//!
//! More: `CTSYNC_SEEDS=1000..5000 cargo test --release -p tests --test sim one_hundred_seeds`.

use std::thread;

use tests::sim;
use tests::sim::builds::Build;
use tests::sim::trouble::{Party, run_builds, run_death};

fn seeds() -> std::ops::Range<u64> {
    let Ok(range) = std::env::var("CTSYNC_SEEDS") else {
        return 0..100;
    };
    let bounds = range
        .split_once("..")
        .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    bounds.expect("CTSYNC_SEEDS is a range like 1000..5000")
}

#[track_caller]
fn demand_none(failures: &[Box<sim::Failure>]) {
    for failure in failures.iter().take(5) {
        println!("{failure}\n");
    }
    let seeds: Vec<u64> = failures.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "{} seeds failed: {seeds:?}", seeds.len());
}

#[test]
fn one_hundred_seeds_keep_every_promise() {
    let (mut failures, mut audited) = (Vec::new(), Vec::new());
    for seed in seeds() {
        match sim::run(seed) {
            Ok(report) => audited.extend((report.audits > 0).then_some(seed)),
            Err(failure) => failures.push(failure),
        }
    }
    demand_none(&failures);
    println!("by an audit only: {audited:?}");
    assert!(audited.len() <= seeds().count() / 500, "{audited:?}");
}

/// Each showed a fault of its own, which is mended; what it was stands beside the rule that mends it, and in a test of that.
#[test]
fn seeds_that_have_failed_keep_every_promise() {
    let failures: Vec<_> = [3334, 3503, 4899, 8670]
        .into_iter()
        .filter_map(|seed| sim::run(seed).err())
        .collect();
    demand_none(&failures);
}

#[test]
fn seeds_with_other_builds_flapping_networks_and_modes_that_switch_keep_every_promise() {
    let failures: Vec<_> = (seeds().filter(|seed| seed % 3 == 0))
        .filter_map(|seed| sim::trouble::run_more(seed).err())
        .collect();
    demand_none(&failures);
}

/// PROTOCOL.md 10.6
#[test]
fn builds_that_know_more_and_less_are_one_cluster_with_this_one() {
    for (builds, skips, asks) in [
        ([Build::This, Build::This], false, true),
        ([Build::This, Build::Later], true, true),
        ([Build::Later, Build::Later], true, true),
        ([Build::This, Build::Earlier], false, false),
        ([Build::Later, Build::Earlier], true, false),
    ] {
        let report = run_builds(builds).unwrap_or_else(|it| panic!("{builds:?}: {it}"));
        assert!(report.flows > 100, "{builds:?}: {report:?}");
        assert_eq!(report.skipped > 0, skips, "{builds:?}: {report:?}");
        assert_eq!(report.snapshots > 0, asks, "{builds:?}: {report:?}");
    }
}

#[test]
fn whoever_dies_at_whichever_step_of_a_full_sync_all_agree_in_the_end() {
    let at_each_step = |party| {
        let mut step = 1;
        loop {
            let run = run_death(party, step);
            let report = run.unwrap_or_else(|it| panic!("{party:?} at {step}: {it}"));
            if report.sync_frames < step {
                return report.sync_frames;
            }
            step += 1;
        }
    };
    thread::scope(|scope| {
        let runs = [Party::Joiner, Party::Server].map(|it| scope.spawn(move || at_each_step(it)));
        for run in runs {
            let frames = run.join().expect("all agree");
            assert!(frames > 20, "{frames} frames");
        }
    });
}

#[test]
fn held_packets_get_one_verdict_in_time_and_what_is_acknowledged_is_in_every_kernel() {
    let mut all = sim::holds::Held::default();
    let mut failures = Vec::new();
    // The runs are as long as those above, and half as many are enough to see each fault often.
    for seed in seeds() {
        match sim::holds::run_holds(seed) {
            Ok(held) => {
                all.acked += held.acked;
                all.otherwise += held.otherwise;
            }
            Err(failure) => failures.push(failure),
        }
    }
    demand_none(&failures);
    println!("{all:?}");
    assert!(all.acked > 100 && all.otherwise > 100, "{all:?}");
}

/// More: `CTSYNC_SEEDS=1000..5000`, as above; one of them with `CTSYNC_POLICIES=1`.
#[test]
fn seeds_with_policies_that_change_tell_what_the_last_one_says_and_nothing_else() {
    let failures: Vec<_> = (seeds().filter(|seed| seed % 3 == 2))
        .filter_map(|seed| sim::policies::run_policies(seed).err())
        .collect();
    demand_none(&failures);
}

#[test]
fn one_seed() {
    let Ok(seed) = std::env::var("CTSYNC_SEED") else {
        return;
    };
    let seed = seed.parse().expect("CTSYNC_SEED is a number");
    if std::env::var_os("CTSYNC_HOLDS").is_some() {
        match sim::holds::run_holds(seed) {
            Ok(held) => println!("{held:?}"),
            Err(failure) => panic!("{failure}"),
        }
        return;
    }
    let is_set = |name| std::env::var_os(name).is_some();
    let run = match (is_set("CTSYNC_MORE"), is_set("CTSYNC_POLICIES")) {
        (true, _) => sim::trouble::run_more(seed),
        (false, true) => sim::policies::run_policies(seed),
        (false, false) => sim::run(seed),
    };
    match run {
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

/// More: `CTSYNC_SEEDS=1000..5000`, as above.
#[test]
fn the_role_is_where_it_belongs_whatever_breaks() {
    let mut failures = Vec::new();
    let mut had = [0; 4];
    // The runs are as long as those above, and half as many have each of these often.
    for seed in seeds().step_by(2) {
        match sim::roles::run(seed) {
            Ok(it) => {
                let these = [it.changes, it.by_probes, it.shared, it.starved];
                had.iter_mut().zip(these).for_each(|(all, it)| *all += it);
            }
            Err(failure) => failures.push(failure),
        }
    }
    assert!(
        failures.is_empty(),
        "{} failed: {:#?}",
        failures.len(),
        failures.get(..5.min(failures.len()))
    );
    println!("changes, pairs without a sync network, groups that share, periods late: {had:?}");
    assert!(!had.contains(&0), "{had:?}");
}
