use super::*;
use crate::policy::tests::key;
use std::time::Instant;

/// Numbers that look random, the same each time.
pub(in crate::policy) struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn address(&mut self) -> String {
        let [a, b, c] = [self.below(4), self.below(4), self.below(4)];
        match self.below(2) {
            0 => format!("10.{a}.{b}.{c}"),
            _ => format!("2001:db8:{a}:{b}::{c}"),
        }
    }

    fn prefixes(&mut self) -> Vec<Prefix> {
        (0..self.below(3))
            .map(|_| {
                let address = self.address();
                let len = match address.contains(':') {
                    true => [0, 32, 48, 64, 128][self.below(5) as usize],
                    false => [0, 8, 16, 24, 32][self.below(5) as usize],
                };
                match Prefix::parse(&format!("{address}/{len}")) {
                    Ok(prefix) | Err(super::super::prefix::PrefixError::HostBits(prefix)) => prefix,
                    Err(error) => panic!("{address}/{len}: {error:?}"),
                }
            })
            .collect()
    }

    pub fn condition(&mut self) -> Condition {
        let protocols = match self.below(4) {
            0 => vec![],
            1 => vec![6],
            2 => vec![6, 17],
            _ => vec![47],
        };
        let selectors = match (protocols.as_slice(), self.below(3)) {
            ([] | [47], _) | (_, 0) => vec![],
            (_, 1) => vec![(80, 80)],
            (..) => vec![(20, 30), (79, 90)],
        };
        Condition {
            source: self.prefixes(),
            destination: self.prefixes(),
            zone: (self.below(8) == 0).then(|| self.below(2) as u16),
            mark: (self.below(8) == 0).then(|| (self.below(2) as u32, 1)),
            flows: Flows {
                protocols,
                selectors,
            },
        }
    }

    pub fn key(&mut self) -> FlowKey {
        let src = self.address();
        let dst = loop {
            let dst = self.address();
            if dst.contains(':') == src.contains(':') {
                break dst;
            }
        };
        let port = [22, 80, 85, 90, 91, 443][self.below(6) as usize];
        let proto = [6, 17, 47, 1][self.below(4) as usize];
        FlowKey {
            zone: self.below(2) as u16,
            ..key(proto, &src, &dst, [1000, port])
        }
    }
}

/// What the classifier does fast, said slowly.
pub(in crate::policy) fn matches(condition: &Condition, key: &FlowKey, mark: u32) -> bool {
    let within = |prefixes: &[Prefix], address: &[u8; 16]| {
        let address = u128::from_be_bytes(*address);
        let holds = |prefix: &Prefix| {
            prefix.family == key.family && (prefix.first()..=prefix.last()).contains(&address)
        };
        prefixes.is_empty() || prefixes.iter().any(holds)
    };
    let flows = &condition.flows;
    let selector = service::selector(key);
    within(&condition.source, &key.src)
        && within(&condition.destination, &key.dst)
        && condition.accepts(key.zone, mark)
        && (flows.protocols.is_empty() || flows.protocols.contains(&key.proto))
        && (flows.selectors.is_empty()
            || (flows.selectors.iter()).any(|it| (it.0..=it.1).contains(&selector)))
}

#[test]
fn the_first_clause_that_matches_is_found() {
    let mut numbers = Numbers(7);
    let mut found = 0;
    for count in [0, 1, 2, 10, 63, 64, 65, 500, 4200] {
        let clauses: Vec<_> = (0..count).map(|_| numbers.condition()).collect();
        let classifier = Classifier::new(&clauses);
        for _ in 0..500 {
            let (key, mark) = (numbers.key(), numbers.below(2) as u32);
            let expected = clauses.iter().position(|it| matches(it, &key, mark));
            assert_eq!(classifier.first(&key, mark), expected, "{key:?}");
            found += usize::from(expected.is_some());
        }
    }
    assert!(found > 1000, "{found} of 4500 flows matched something");
}

#[test]
fn a_clause_that_covers_another_matches_whatever_that_does() {
    let mut numbers = Numbers(11);
    let (mut covering, mut tried) = (0, 0);
    while tried < 30_000 {
        let (one, other) = (numbers.condition(), numbers.condition());
        tried += 1;
        if one.covers(&other) {
            covering += 1;
            for _ in 0..20 {
                let (key, mark) = (numbers.key(), numbers.below(2) as u32);
                assert!(
                    !matches(&other, &key, mark) || matches(&one, &key, mark),
                    "{one:?} {other:?}"
                );
            }
        }
    }
    assert!(covering > 100, "{covering}");
}

#[test]
fn a_large_policy_is_compiled_in_no_time() {
    let mut numbers = Numbers(13);
    let clauses: Vec<_> = (0..6000).map(|_| numbers.condition()).collect();
    let begun = Instant::now();
    Classifier::new(&clauses);
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
}
