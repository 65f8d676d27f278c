//! Signals by number, as a store knows them.

use std::collections::HashMap;

use ev_domain::{Catalogue, SignalId};

/// A store's numbers for signals: what is kept names signals by them, and they by their text, once for each store.
/// A signal's id is another one in every process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dictionary {
    stored: Vec<Option<u16>>,
    known: HashMap<u16, SignalId>,
    ranks: Vec<usize>,
}

// === impl Dictionary ===

impl Dictionary {
    /// A dictionary of these numbers and names; signals of the catalogue that are not among them have none.
    pub(crate) fn new(names: &[(u16, String)], catalogue: &Catalogue) -> Dictionary {
        let count = catalogue.iter().count();
        let mut by_name: Vec<_> = catalogue.iter().collect();
        by_name.sort_by_key(|(_, signal)| &signal.name);
        let mut ranks = vec![0; count];
        by_name.iter().enumerate().for_each(|(rank, (id, _))| ranks[id.index()] = rank);
        let mut dictionary = Dictionary { stored: vec![None; count], known: HashMap::new(), ranks };
        for (stored, name) in names {
            let Some(signal) = catalogue.by_name(name) else { continue };
            if let Some(place) = dictionary.stored.get_mut(signal.index()) {
                *place = Some(*stored);
                dictionary.known.insert(*stored, signal);
            }
        }
        dictionary
    }

    /// Its number in the store.
    pub(crate) fn stored(&self, signal: SignalId) -> Option<u16> {
        self.stored.get(signal.index()).copied().flatten()
    }

    /// The signal of a number; none when the catalogue no longer has it.
    pub(crate) fn known(&self, stored: u16) -> Option<SignalId> {
        self.known.get(&stored).copied()
    }

    /// The place of its name among all names.
    pub(crate) fn rank(&self, signal: SignalId) -> usize {
        self.ranks.get(signal.index()).copied().unwrap_or(usize::MAX)
    }

    #[cfg(test)]
    pub(crate) fn of(catalogue: &Catalogue) -> Dictionary {
        let names: Vec<_> = (7..).zip(catalogue.iter().map(|(_, signal)| signal.name.to_string())).collect();
        Dictionary::new(&names, catalogue)
    }
}
