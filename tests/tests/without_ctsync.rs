//! The control experiment: without ctsync, no connection survives the loss of its gateway.
//!
//! It proves that the lab can tell: were its gateways lenient, the tests of failover would prove nothing.

use std::time::Duration;

use tests::demo::failover::{Failover, Protection, every_connection};

#[test]
fn no_connection_survives_its_gateway_without_ctsync() {
    let mut control = Failover::prepare(Protection::Nothing);
    control.open(Duration::ZERO);
    control.cut_links();
    control.move_routes();
    let outcomes = control.observe();
    assert_eq!(outcomes.len(), every_connection().count());
    let survivors: Vec<_> = outcomes.iter().filter(|it| it.goes_on()).collect();
    assert!(survivors.is_empty(), "{survivors:#?}");
}
