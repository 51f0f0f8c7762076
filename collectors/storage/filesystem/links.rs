//! Files with several names are counted once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

/// Files with names still to come that are remembered; 24 bytes each, so that all of them take
/// about 14 MiB.
pub(super) const LINKS_MAX: usize = 1 << 18;

/// A file's identity: device and inode.
pub(super) type FileId = (u64, u64);

/// What to count for one name of a file that has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// The first name: all of it.
    Whole,
    /// Another name of a file that was counted.
    Nothing,
    /// There was no room to remember it: its size divided by its number of names.
    Part,
}

/// Remembers files until all their names have been seen, and the part of the tree where each was first.
#[derive(Debug, Default)]
pub(super) struct Links {
    remaining: HashMap<FileId, (u32, u32)>,
    /// Parts of the tree that share a file with another part.
    entangled: BTreeSet<u32>,
}

impl Links {
    /// Says what to count for a name, in a part of the tree, of a file with `names` names.
    pub(super) fn see(&mut self, file: FileId, names: u32, part: u32) -> Share {
        let room = self.remaining.len() < LINKS_MAX;
        match self.remaining.entry(file) {
            Entry::Occupied(mut entry) => {
                let (left, first) = entry.get_mut();
                if *first != part {
                    self.entangled.extend([*first, part]);
                }
                *left -= 1;
                if *left == 0 {
                    entry.remove();
                }
                Share::Nothing
            }
            Entry::Vacant(entry) if room => {
                entry.insert((names.saturating_sub(1).max(1), part));
                Share::Whole
            }
            Entry::Vacant(_) => Share::Part,
        }
    }

    /// The parts of the tree that cannot be counted by themselves: they have a name of a file whose other
    /// names are elsewhere, or still to come.
    pub(super) fn entangled(&self) -> BTreeSet<u32> {
        let open = self.remaining.values().map(|(_, part)| *part);
        self.entangled.iter().copied().chain(open).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_counts_and_a_complete_file_is_forgotten() {
        let mut links = Links::default();
        let shares: Vec<Share> = (0..3).map(|_| links.see((1, 7), 3, 0)).collect();
        assert_eq!(shares, [Share::Whole, Share::Nothing, Share::Nothing]);
        assert!(links.remaining.is_empty());
        assert_eq!(links.see((2, 7), 2, 0), Share::Whole);
    }

    #[test]
    fn parts_that_share_a_file_and_parts_of_half_seen_files_are_entangled() {
        let mut links = Links::default();
        for (inode, names, part) in [(1, 2, 1), (1, 2, 1), (2, 2, 2), (2, 2, 3), (3, 2, 4)] {
            links.see((1, inode), names, part);
        }
        assert_eq!(links.entangled(), BTreeSet::from([2, 3, 4]));
    }

    #[test]
    fn without_room_each_name_counts_its_part() {
        let mut links = Links::default();
        for inode in 0..LINKS_MAX as u64 {
            links.see((1, inode), 2, 0);
        }
        assert_eq!(links.see((2, 1), 2, 0), Share::Part);
        assert_eq!(links.see((1, 1), 2, 0), Share::Nothing);
        assert_eq!(links.see((2, 2), 2, 0), Share::Whole);
    }
}
