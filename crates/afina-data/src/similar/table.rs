//! A hash table of numbers to numbers that wastes little: open addressing, growing by half, no box per entry.

/// What a table is searched by: a hash, all bits of it well mixed.
pub(crate) trait Key: Copy + PartialEq + Default {
    /// Where of `slots` slots the key belongs.
    fn slot(self, slots: usize) -> usize;
}

impl Key for u32 {
    fn slot(self, slots: usize) -> usize {
        ((u64::from(self) * slots as u64) >> 32) as usize
    }
}

impl Key for u64 {
    fn slot(self, slots: usize) -> usize {
        ((u128::from(self) * slots as u128) >> 64) as usize
    }
}

/// Values by key; a key may have several. Between 1.33 and 2 slots an entry, of the size of a key and a value each.
pub(crate) struct Table<K> {
    keys: Vec<K>,
    /// [`FREE`] where the slot is.
    values: Vec<u32>,
    len: usize,
}

const FREE: u32 = u32::MAX;

impl<K: Key> Default for Table<K> {
    fn default() -> Table<K> {
        Table { keys: Vec::new(), values: Vec::new(), len: 0 }
    }
}

impl<K: Key> Table<K> {
    /// The values of this key, in the order they were put in.
    pub(crate) fn get(&self, key: K) -> impl Iterator<Item = u32> {
        let slots = self.values.len();
        let mut at = key.slot(slots);
        std::iter::from_fn(move || {
            while slots > 0 && self.values[at] != FREE {
                let (found, value) = (self.keys[at], self.values[at]);
                at = if at + 1 == slots { 0 } else { at + 1 };
                if found == key {
                    return Some(value);
                }
            }
            None
        })
    }

    /// # Panics
    /// If the value is `u32::MAX`, which marks a free slot.
    pub(crate) fn insert(&mut self, key: K, value: u32) {
        assert!(value != FREE, "a value is below {FREE}");
        if (self.len + 1) * 4 > self.values.len() * 3 {
            self.grow();
        }
        self.put(key, value);
        self.len += 1;
    }

    fn put(&mut self, key: K, value: u32) {
        let slots = self.values.len();
        let mut at = key.slot(slots);
        while self.values[at] != FREE {
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
        (self.keys[at], self.values[at]) = (key, value);
    }

    fn grow(&mut self) {
        let slots = (self.values.len() * 3 / 2).max(64);
        let keys = std::mem::replace(&mut self.keys, vec![K::default(); slots]);
        let values = std::mem::replace(&mut self.values, vec![FREE; slots]);
        // From behind a free slot on, so that the values of a key stay in their order.
        let start = values.iter().position(|&value| value == FREE).unwrap_or(0);
        for at in (start..values.len()).chain(0..start).filter(|&at| values[at] != FREE) {
            self.put(keys[at], values[at]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_found_under_its_key_in_order_while_the_table_grows() {
        let mut table = Table::<u32>::default();
        let key = |index: u32| (index / 3).wrapping_mul(0x9E37_79B9);
        for index in 0..30_000 {
            table.insert(key(index), index);
        }
        for first in (0..30_000).step_by(3) {
            assert_eq!(table.get(key(first)).collect::<Vec<_>>(), [first, first + 1, first + 2]);
        }
        assert_eq!(table.get(1).next(), None);
        assert!(table.values.len() <= 2 * 30_000);
    }

    #[test]
    fn keys_at_the_end_of_the_slots_go_on_at_the_start() {
        let mut table = Table::<u64>::default();
        for index in 0..40 {
            table.insert(u64::MAX - index, index as u32);
        }
        assert!((0..40).all(|index| table.get(u64::MAX - index).eq([index as u32])));
        assert_eq!(Table::<u64>::default().get(7).next(), None);
    }
}
