//! The table of the model: one item, changed by the real transitions alone.
//!
//! A state of the model holds numbers for items, and every write is computed once for each item it meets, so that a million
//! states cost a few thousand evaluations.

use std::collections::{BTreeSet, HashMap};

use super::clock;
use super::mutations::{Mutant, Place};
use super::writes::{Operation, transition};
use crate::item::{Attribute, Item, Value};
use crate::record::{PendingHint, Record};
use crate::transition::{Applied, Transition};

/// An item, by its number in [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ItemId(u32);

/// What an item says.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) item: Item,
    /// None where it cannot be read any more.
    pub(super) record: Option<Record>,
}

/// Every item that was met.
#[derive(Debug, Default)]
pub(super) struct Table {
    known: Vec<Known>,
    ids: HashMap<Item, ItemId>,
    written: HashMap<(Operation, Option<ItemId>), Applied<ItemId>>,
    renumbered: HashMap<(ItemId, u64), ItemId>,
    /// The transition that is changed on purpose.
    mutant: Option<Mutant>,
    /// All that a mutant can be made of.
    pub(super) places: BTreeSet<Place>,
}

/// What distinguishes no two items here: it is only for people, or for the length of a back-off.
const UNREAD: [Attribute; 2] = [Attribute::Attempts, Attribute::WriteId];

/// Times of which only matters whether they are there.
const MARKS: [Attribute; 5] = [
    Attribute::CreatedAt,
    Attribute::RegisteredAt,
    Attribute::SubmittedAt,
    Attribute::ReportedAt,
    Attribute::FinishedAt,
];

/// How often a provider does not know a task, at most, as far as it makes a difference.
const MAX_NOT_FOUND: u32 = 3;

impl Table {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant, ..Self::default() }
    }

    pub(super) fn known(&self, id: ItemId) -> &Known {
        &self.known[id.0 as usize]
    }

    /// Only of items that can be read: a state with another is not continued.
    pub(super) fn record(&self, id: ItemId) -> &Record {
        self.known[id.0 as usize].record.as_ref().expect("what cannot be read is not continued")
    }

    /// Does a write, as `DynamoDB` would. Refused, it gives back the item that stood in the way.
    pub(super) fn write(&mut self, operation: Operation, item: Option<ItemId>) -> Applied<ItemId> {
        if let Some(applied) = self.written.get(&(operation, item)) {
            return applied.clone();
        }
        let real: Transition = transition(operation, self);
        self.places.extend(Place::all_of(operation.name(), &real));
        let transition = match &self.mutant {
            Some(mutant) if mutant.place.transition == operation.name() => mutant.applied_to(&real),
            _ => real,
        };
        let applied = match transition.evaluate(item.map(|id| self.known(id).item.clone())) {
            Applied::Done(item) => Applied::Done(item.map(|item| self.intern(reduced(item)))),
            Applied::Refused(_) => Applied::Refused(item),
        };
        self.written.insert((operation, item), applied.clone());
        applied
    }

    /// The same item with another fencing token.
    pub(super) fn with_token(&mut self, id: ItemId, token: u64) -> ItemId {
        if let Some(renumbered) = self.renumbered.get(&(id, token)) {
            return *renumbered;
        }
        let mut item = self.known(id).item.clone();
        if token == 0 {
            item.remove(&Attribute::FencingToken);
        } else {
            item.insert(Attribute::FencingToken, token.into());
        }
        let renumbered = self.intern(item);
        self.renumbered.insert((id, token), renumbered);
        renumbered
    }

    /// The parts that, left out, would change what one of the writes did. Without the others nothing would be different.
    pub(super) fn differing(&self) -> BTreeSet<Place> {
        let mut differing = BTreeSet::new();
        for (operation, item) in self.written.keys() {
            let real = transition(*operation, self);
            let written =
                |transition: &Transition| match transition.evaluate(item.map(|id| self.known(id).item.clone())) {
                    Applied::Done(item) => Some(item.map(reduced)),
                    Applied::Refused(_) => None,
                };
            let expected = written(&real);
            for place in Place::all_of(operation.name(), &real) {
                if !differing.contains(&place)
                    && written(&Mutant { place: place.clone() }.applied_to(&real)) != expected
                {
                    differing.insert(place);
                }
            }
        }
        differing
    }

    fn intern(&mut self, item: Item) -> ItemId {
        if let Some(id) = self.ids.get(&item) {
            return *id;
        }
        let id = ItemId(u32::try_from(self.known.len()).expect("there are few items"));
        self.ids.insert(item.clone(), id);
        let record = Record::from_item(&item).ok();
        self.known.push(Known { item, record });
        id
    }
}

/// The item without what makes no difference.
fn reduced(mut item: Item) -> Item {
    item.retain(|attribute, _| !UNREAD.contains(attribute));
    for (attribute, value) in &mut item {
        match (attribute, value) {
            (mark, Value::Number(time)) if MARKS.contains(mark) => *time = 0,
            (Attribute::ExpiresAt, Value::Number(time)) => *time = 0,
            (Attribute::DueAt, Value::Number(time)) => *time = clock::due_code(*time),
            (Attribute::Hint, Value::Text(hint)) => {
                if let Ok(mut known) = serde_json::from_str::<PendingHint>(hint) {
                    known.not_found = known.not_found.min(MAX_NOT_FOUND);
                    *hint = serde_json::to_string(&known).expect("it serialises");
                }
            }
            _ => {}
        }
    }
    item
}
