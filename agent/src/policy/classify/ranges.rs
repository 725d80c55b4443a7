//! One dimension, cut into intervals: which one a number is in.
//!
//! Found by an index over equal slices of the span in which there are intervals at all, and a search within the slice,
//! which mostly has one or two: a table of networks is dense in few places.

use super::rows::{Row, Rows};
use std::collections::BTreeMap;

/// Slices for each interval, so that most hold one; and at most so many, which the second cache still holds.
const SLICES_PER_INTERVAL: usize = 4;
const SLICES_MAX: usize = 1 << 14;

/// Intervals of numbers from 0 on, each with its row.
#[derive(Clone, Debug)]
pub(super) struct Ranges {
    /// Where each begins; the first at 0.
    starts: Vec<u128>,
    rows: Vec<Row>,
    /// Where the second begins: before it there is nothing to search.
    base: u128,
    shift: u32,
    /// The interval that each slice from `base` on begins in, and that of the end.
    slices: Vec<u32>,
}

impl Ranges {
    /// Intervals that begin wherever one of `spans` (a clause, its first and its last number) begins or ends.
    pub fn new(rows: &mut Rows, spans: impl Iterator<Item = (usize, (u128, u128))>) -> Self {
        // What changes at each start: clauses that begin there, and clauses that ended before.
        let mut changes: BTreeMap<u128, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        changes.entry(0).or_default();
        for (clause, (first, last)) in spans {
            changes.entry(first).or_default().0.push(clause);
            if let Some(after) = last.checked_add(1) {
                changes.entry(after).or_default().1.push(clause);
            }
        }
        let mut depths = vec![0_u32; rows.bits()];
        let mut open = rows.blank();
        let (mut starts, mut of_each) = (Vec::new(), Vec::new());
        for (start, (begun, ended)) in changes {
            for clause in ended {
                depths[clause] -= 1;
                open.set(clause, depths[clause] > 0);
            }
            for clause in begun {
                depths[clause] += 1;
                open.set(clause, true);
            }
            starts.push(start);
            of_each.push(rows.intern(&open));
        }
        Self::indexed(starts, of_each)
    }

    fn indexed(starts: Vec<u128>, rows: Vec<Row>) -> Self {
        let base = starts.get(1).copied().unwrap_or_default();
        let span = starts.last().copied().unwrap_or_default() - base;
        let wanted = (starts.len() * SLICES_PER_INTERVAL)
            .next_power_of_two()
            .min(SLICES_MAX);
        let shift = (128 - span.leading_zeros()).saturating_sub(wanted.trailing_zeros());
        let count = (span >> shift) as usize + 1;
        let before = |number: u128| starts.partition_point(|start| *start <= number) - 1;
        let slices = (0..count)
            .map(|slice| before(base + ((slice as u128) << shift)) as u32)
            .chain([starts.len() as u32 - 1])
            .collect();
        Self {
            base,
            shift,
            slices,
            starts,
            rows,
        }
    }

    /// The row of the interval that `number` is in.
    pub fn find(&self, number: u128) -> Row {
        if number < self.base {
            return self.rows[0];
        }
        let last = self.slices.len() - 2;
        let slice = ((number - self.base) >> self.shift).min(last as u128) as usize;
        let [low, high] = [self.slices[slice], self.slices[slice + 1]].map(|at| at as usize);
        let within = &self.starts[low + 1..=high];
        self.rows[low + within.partition_point(|start| *start <= number)]
    }
}
