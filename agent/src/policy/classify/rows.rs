//! Rows of bits, one a clause, and the first bits that several have in common.
//!
//! A row keeps the words that are not zero, and in its summary one bit for each word that it keeps: the words that three
//! rows have in common are found without reading those that one of them has not. Equal rows are kept once.

use hashbrown::HashMap;
use std::ops::ControlFlow;

/// Words of a summary.
const SUMMARIES: usize = 4;
/// Bits that a row can have.
pub const BITS_MAX: usize = SUMMARIES * 64 * 64;

/// Names a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Row(u32);

/// A row in the making.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Sets or clears a bit.
    pub fn set(&mut self, bit: usize, value: bool) {
        let (word, mask) = (&mut self.0[bit / 64], 1 << (bit % 64));
        *word = if value { *word | mask } else { *word & !mask };
    }
}

#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Which words are kept.
    summaries: [u64; SUMMARIES],
    /// Where those of each summary begin.
    begins: [u32; SUMMARIES],
}

/// All rows.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    bits: usize,
    kept: Vec<Kept>,
    words: Vec<u64>,
    known: HashMap<Bits, Row>,
}

impl Rows {
    /// None yet; each will have `bits` bits.
    pub fn new(bits: usize) -> Self {
        Self {
            bits,
            kept: Vec::new(),
            words: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// How many bits each has.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// A row in the making, with no bit set.
    pub fn blank(&self) -> Bits {
        Bits(vec![0; self.bits.div_ceil(64)])
    }

    /// The row with these bits.
    pub fn of(&mut self, set: impl Iterator<Item = usize>) -> Row {
        let mut bits = self.blank();
        set.for_each(|bit| bits.set(bit, true));
        self.intern(&bits)
    }

    /// The row that equals `bits`.
    pub fn intern(&mut self, bits: &Bits) -> Row {
        if let Some(row) = self.known.get(bits) {
            return *row;
        }
        let mut kept = Kept {
            summaries: [0; SUMMARIES],
            begins: [0; SUMMARIES],
        };
        for (at, words) in bits.0.chunks(64).enumerate() {
            kept.begins[at] = self.words.len() as u32;
            for (bit, word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
                kept.summaries[at] |= 1 << bit;
                self.words.push(*word);
            }
        }
        let row = Row(self.kept.len() as u32);
        self.kept.push(kept);
        self.known.insert(bits.clone(), row);
        row
    }

    /// No more rows will come: forgets what only finds equal ones.
    pub fn seal(&mut self) {
        self.known = HashMap::new();
    }

    /// Gives `each` the bits that all three rows have, in order, until it breaks.
    pub fn common<B>(
        &self,
        rows: [Row; 3],
        mut each: impl FnMut(usize) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let rows = rows.map(|row| &self.kept[row.0 as usize]);
        for at in 0..SUMMARIES {
            let mut summary = rows
                .iter()
                .fold(u64::MAX, |all, row| all & row.summaries[at]);
            while summary != 0 {
                let below = (summary & summary.wrapping_neg()) - 1;
                let index = at * 64 + summary.trailing_zeros() as usize;
                summary &= summary - 1;
                let mut word = rows.iter().fold(u64::MAX, |all, row| {
                    let rank = (row.summaries[at] & below).count_ones();
                    all & self.words[(row.begins[at] + rank) as usize]
                });
                while word != 0 {
                    each(index * 64 + word.trailing_zeros() as usize)?;
                    word &= word - 1;
                }
            }
        }
        ControlFlow::Continue(())
    }
}
