//! Which records stay together, and which groups of them are validation.

use std::collections::HashMap;

use super::key::place;
use crate::similar::{NearDuplicates, Signature};

/// The records so far.
#[derive(Default)]
pub(super) struct Groups {
    /// Number of each key.
    numbers: HashMap<u64, u32>,
    keys: Vec<u64>,
    of_records: Vec<u32>,
    near: NearDuplicates,
}

/// Which side each record is on.
pub(super) struct Chosen {
    pub(super) validation: Vec<bool>,
    pub(super) groups: usize,
    pub(super) not_compared: usize,
}

/// Records that stay together: how many, and where they stand in the order of all groups.
struct Group {
    place: f64,
    key: u64,
    records: usize,
    chosen: bool,
}

impl Groups {
    pub(super) fn add(&mut self, key: u64, signature: Option<Box<Signature>>) {
        let number = *self.numbers.entry(key).or_insert_with(|| {
            self.keys.push(key);
            (self.keys.len() - 1) as u32
        });
        self.of_records.push(number);
        if let Some(signature) = signature {
            self.near.add(self.of_records.len(), signature);
        }
    }

    /// The first groups in the seed's order, until validation has its `share` of the records as nearly as whole groups
    /// allow, and one at least. `None`: there are not two groups.
    pub(super) fn choose(self, share: f64, seed: u64) -> Option<Chosen> {
        let (found, not_compared) = self.near.finish();
        let mut roots: Vec<u32> = (0..self.keys.len() as u32).collect();
        let of_line = |line: u32| self.of_records[line as usize - 1];
        for near in found {
            join(&mut roots, of_line(near.line), of_line(near.earlier));
        }
        let records = self.of_records.len();
        let group_of: Vec<u32> = self.of_records.iter().map(|&number| root(&mut roots, number)).collect();
        // A group stands where the first of its keys does.
        let mut groups: HashMap<u32, Group> = HashMap::new();
        for (number, &key) in self.keys.iter().enumerate() {
            let place = place(key, seed);
            let group = groups.entry(root(&mut roots, number as u32)).or_insert(Group {
                place,
                key,
                records: 0,
                chosen: false,
            });
            if (place, key) < (group.place, group.key) {
                (group.place, group.key) = (place, key);
            }
        }
        if groups.len() < 2 {
            return None;
        }
        for group in &group_of {
            if let Some(group) = groups.get_mut(group) {
                group.records += 1;
            }
        }
        let mut order: Vec<&mut Group> = groups.values_mut().collect();
        order.sort_by(|a, b| a.place.total_cmp(&b.place).then(a.key.cmp(&b.key)));
        take(&mut order, share * records as f64);
        let validation = group_of.iter().map(|group| groups[group].chosen).collect();
        Some(Chosen { validation, groups: groups.len(), not_compared })
    }
}

/// Chooses groups in their order, none that goes beyond the wanted number of records, but for one at the end where that
/// is nearer; one at least, and not all.
fn take(order: &mut [&mut Group], wanted: f64) {
    let mut count = 0;
    for group in order.iter_mut() {
        if (count + group.records) as f64 <= wanted.round() {
            group.chosen = true;
            count += group.records;
        }
    }
    let off = |count: usize| (count as f64 - wanted).abs();
    let others = || order.iter().enumerate().filter(|(_, group)| !group.chosen);
    let nearest = others().map(|(index, group)| (off(count + group.records), index));
    let nearest = nearest.min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let last_one = others().count() == 1;
    if let Some((miss, index)) = nearest
        && !last_one
        && (count == 0 || miss < off(count))
    {
        order[index].chosen = true;
    }
    if order.iter().all(|group| group.chosen)
        && let Some(last) = order.last_mut()
    {
        last.chosen = false;
    }
}

/// The number that stands for a key and all that it was joined with.
fn root(roots: &mut [u32], mut number: u32) -> u32 {
    while roots[number as usize] != number {
        roots[number as usize] = roots[roots[number as usize] as usize];
        number = roots[number as usize];
    }
    number
}

fn join(roots: &mut [u32], one: u32, other: u32) {
    let (one, other) = (root(roots, one), root(roots, other));
    roots[one.max(other) as usize] = one.min(other);
}
