//! Questions of operators, answered between two turns of the loop.

use super::Driver;
use crate::control::Ask;
use ccp::time::Instant;

/// Rows of a page of flows that a client may ask for, so that one question costs the loop well under a millisecond.
const PAGE_ROWS_MAX: usize = 1024;

impl Driver {
    /// Answers what was asked.
    pub(super) fn answer(&mut self) {
        let now = self.now();
        while let Ok(ask) = self.asks.try_recv() {
            // An asker that went away meanwhile needs no answer.
            match ask {
                Ask::Status(answer) => drop(answer.send(self.core.status(now))),
                Ask::Flows {
                    from,
                    limit,
                    answer,
                } => drop(answer.send(self.core.flows(from, limit.min(PAGE_ROWS_MAX)))),
                Ask::Explain(flow, answer) => {
                    let mut explanation = self.core.explain(&flow, now);
                    let refused = self.core.refused_copy(&flow);
                    explanation.conflict = refused.and_then(|it| self.kernel.in_place_of(&it));
                    drop(answer.send(explanation));
                }
                Ask::Reload(answer) => self.reloader.ask(answer),
                Ask::SyncStat(answer) => {
                    let mut stat = self.core.syncstat(now);
                    stat.networks = self.networks.status();
                    drop(answer.send(stat));
                }
                Ask::Accounting(answer) => drop(answer.send(self.core.accounting(now))),
                Ask::Services(answer) => drop(answer.send(self.core.services(now))),
                Ask::Paths(answer) => {
                    let holding = self.holding.as_ref();
                    let used = holding.is_some_and(|holding| holding.learns());
                    let links = self.addresses.links();
                    let name_of = |index| {
                        let link = links.iter().find(|link| link.index == index);
                        link.map_or_else(|| format!("#{index}"), |link| link.name.clone())
                    };
                    drop(answer.send(self.core.splits().answer(used, name_of, now)));
                }
                Ask::Mode(request, answer) => {
                    (self.modes).handle_request(&mut self.core, &request, answer, now);
                }
                Ask::Facts(answer) => drop(answer.send(self.core.facts())),
                Ask::TakeFacts(facts) => {
                    self.core.set_facts(facts, now);
                    self.differences.look(&self.core.facts());
                }
                Ask::Audit(answer) => drop(answer.send(self.core.audit(now))),
                Ask::AuditNow(answer) => {
                    let round = self.core.ask_round();
                    self.audits.retain(|(_, answer)| !answer.is_closed());
                    self.audits.push((round, answer));
                }
                Ask::Roles(request, answer) => {
                    let done = (self.roles).handle_request(&mut self.core, request, now);
                    drop(answer.send(done));
                }
                Ask::Resync(answer) => {
                    self.core.resync(now);
                    let _ = answer.send(self.core.sync_status(now));
                }
                Ask::RollKeys(answer) => {
                    self.core.ask_roll();
                    self.rolls.retain(|answer| !answer.is_closed());
                    self.rolls.push(answer);
                }
            }
        }
    }

    /// Answers those who waited for another key to be in use.
    pub(super) fn answer_rolls(&mut self) {
        if !self.core.is_rolling() {
            for answer in self.rolls.drain(..) {
                // An asker that went away meanwhile needs no answer.
                let _ = answer.send(self.core.rolled());
            }
        }
    }

    /// Answers those whose round of the audit is over.
    pub(super) fn answer_audits(&mut self, now: Instant) {
        let rounds = self.core.rounds();
        for (_, answer) in self.audits.extract_if(.., |(round, _)| *round <= rounds) {
            // An asker that went away meanwhile needs no answer.
            let _ = answer.send(self.core.audit(now));
        }
    }
}
