//! Showing predictions to observers off the serving threads: the prediction log, shadows, guards of a rollout.
//!
//! Who is shown a row is decided by its prediction's id, before it is run. A row that nobody wants costs one comparison;
//! of one that somebody wants, inputs and answer are copied once, for all observers. None is ever waited for.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use arc_swap::ArcSwap;
use ev_domain::VehicleId;
use ev_models_core::{DataType, Manifest};
use uuid::Uuid;

use super::{
    assemble::{ABSENT, CODE, InputValue, RowBuilder, RowMeta, RowScratch, UNKNOWN},
    outcome::{Estimate, OutOfDistribution, Outcome, Timings},
    plan::{Plan, PlannedInput},
};

/// What listens to a deployment's predictions.
pub(crate) trait Observer: Send + Sync {
    /// Takes a prediction, or drops and counts it. Called on serving threads: it must neither wait nor lock.
    fn offer(&self, seen: &Arc<Seen>);
}

/// Who listens to one deployment, and to how much of it.
pub(crate) struct Tap {
    /// Rows are shown to somebody whose place is below; 0 while nobody listens.
    below: AtomicU32,
    observers: ArcSwap<Vec<Listening>>,
}

#[derive(Clone)]
struct Listening {
    name: &'static str,
    below: u32,
    observer: Arc<dyn Observer>,
}

/// The random part of a prediction's id. It decides who is shown the row, so that everybody who knows the id knows that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Draw(u64);

/// A model version, as long as somebody speaks of its predictions.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) version: u32,
    pub(crate) digest: String,
    pub(crate) plan: Arc<Plan>,
}

/// The inputs of a row, as they were assembled, in the signature's order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Inputs {
    /// What the slots of the inputs held; empty of a picture.
    values: Box<[f32]>,
    /// What came of each input: absent, unknown, or known, with the text's place in the vocabulary.
    marks: Box<[u32]>,
    /// The vehicle they were read for, or another key that the caller gave.
    pub(crate) key: Option<Box<str>>,
}

/// A prediction that was made.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) served: Arc<Served>,
    pub(crate) id: Uuid,
    pub(crate) inputs: Arc<Inputs>,
    pub(crate) estimate: Estimate,
    /// Share of the model's inputs that were given and known, 0 to 1.
    pub(crate) coverage: f32,
    pub(crate) out_of_distribution: Vec<OutOfDistribution>,
    /// When the request was taken up, in milliseconds since 1970.
    pub(crate) taken_unix_ms: u64,
    pub(crate) timings: Timings,
}

/// Places of rows: a listener to everything listens to all that are below.
const PLACES: u32 = 1 << 30;
/// A text that the model has no vocabulary for: only that there was one is kept.
const ANY_TEXT: &str = "?";

// === impl Draw ===

impl Draw {
    #[inline]
    fn random() -> Draw {
        Draw(fastrand::u64(..))
    }

    /// Of row `row` of a request whose rows share an id: the last 32 bits count up.
    #[inline]
    pub(crate) fn following(self, row: usize) -> Draw {
        let Draw(first) = self;
        let low = (first & u64::from(u32::MAX)).wrapping_add(row as u64) & u64::from(u32::MAX);
        Draw(first & !u64::from(u32::MAX) | low)
    }

    /// One for all rows of a request.
    pub(crate) fn of_request() -> Draw {
        Draw::random()
    }

    /// The last eight bytes of the id, but for the variant's two bits.
    #[inline]
    pub(super) fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// 30 of the id's bits, which the rows of one request share.
    #[inline]
    fn place(self) -> u32 {
        let [_, _, _, _, low @ ..] = (self.0 >> 32 & u64::from(PLACES - 1)).to_be_bytes();
        u32::from_be_bytes(low)
    }
}

// === impl Tap ===

impl Default for Tap {
    fn default() -> Tap {
        Tap { below: AtomicU32::new(0), observers: ArcSwap::from_pointee(Vec::new()) }
    }
}

impl Tap {
    /// Shows a share of the predictions from now on, 0 to 1, to an observer, in the place of the one of that name.
    pub(crate) fn listen(&self, name: &'static str, share: f64, observer: Arc<dyn Observer>) {
        let listening = Listening { name, below: below(share), observer };
        self.change(|observers| {
            observers.retain(|known| known.name != name);
            observers.push(listening.clone());
        });
    }

    /// Shows the observer of that name nothing more.
    #[allow(dead_code, reason = "for observers that do not stay")]
    pub(crate) fn leave(&self, name: &str) {
        self.change(|observers| observers.retain(|known| known.name != name));
    }

    fn change(&self, change: impl Fn(&mut Vec<Listening>)) {
        self.observers.rcu(|observers| {
            let mut observers = Vec::clone(observers);
            change(&mut observers);
            observers
        });
        let most = self.observers.load().iter().map(|listening| listening.below).max().unwrap_or(0);
        self.below.store(most, Ordering::Relaxed);
    }

    /// Draws a row's id, or takes it after its request's, and copies the row where somebody wants it.
    #[inline]
    pub(super) fn draw(
        &self,
        of_request: Option<(Draw, usize)>,
        plan: &Plan,
        scratch: &RowScratch,
        meta: &mut RowMeta,
    ) {
        meta.draw = match of_request {
            None => Draw::random(),
            Some((first, row)) => first.following(row),
        };
        if meta.draw.place() < self.below.load(Ordering::Relaxed) {
            meta.inputs = Some(Inputs::copied(plan, scratch));
        }
    }

    /// The same, of a row that is a picture, which is not copied.
    pub(super) fn draw_picture(&self, of_request: Option<(Draw, usize)>, meta: &mut RowMeta) {
        meta.draw = match of_request {
            None => Draw::random(),
            Some((first, row)) => first.following(row),
        };
        if meta.draw.place() < self.below.load(Ordering::Relaxed) {
            meta.inputs = Some(Arc::new(Inputs { values: Box::default(), marks: Box::default(), key: None }));
        }
    }

    /// Shows a prediction to those who want it.
    #[cold]
    pub(crate) fn show(&self, served: &Arc<Served>, id: Uuid, taken_unix_ms: u64, outcome: &Outcome) {
        let Some(inputs) = &outcome.inputs else { return };
        let observers = self.observers.load();
        let seen = Arc::new(Seen {
            served: Arc::clone(served),
            id,
            inputs: Arc::clone(inputs),
            estimate: outcome.estimate.clone(),
            coverage: outcome.coverage,
            out_of_distribution: outcome.out_of_distribution.clone(),
            taken_unix_ms,
            timings: outcome.timings,
        });
        for listening in observers.iter().filter(|listening| outcome.draw.place() < listening.below) {
            listening.observer.offer(&seen);
        }
    }
}

/// Whether a prediction is shown to a listener to this share.
pub(crate) fn is_shown(id: Uuid, share: f64) -> bool {
    Draw(id.as_u64_pair().1).place() < below(share)
}

/// The place below which a share of all rows are.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 2^30, which was clamped")]
fn below(share: f64) -> u32 {
    let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
    (share * f64::from(PLACES)).round() as u32
}

// === impl Inputs ===

impl Inputs {
    #[cold]
    fn copied(plan: &Plan, scratch: &RowScratch) -> Arc<Inputs> {
        let (slots, marks) = scratch.row();
        let width = slots.len() - plan.derived.len();
        Arc::new(Inputs { values: slots[..width].into(), marks: marks.into(), key: None })
    }

    /// Says whose they are, before anybody was shown them.
    pub(crate) fn set_key(inputs: &mut Arc<Inputs>, key: &str) {
        if let Some(inputs) = Arc::get_mut(inputs) {
            inputs.key = Some(key.into());
        }
    }

    /// The same, of a vehicle.
    pub(crate) fn set_vehicle(inputs: &mut Arc<Inputs>, vehicle: &VehicleId) {
        Inputs::set_key(inputs, vehicle.as_str());
    }
}

// === impl Served ===

impl Served {
    /// Model name.
    pub(crate) fn model(&self) -> &str {
        &self.manifest.model.name
    }
}

// === impl Seen ===

impl Seen {
    /// The value of an input as it was sent: its number, or the text as the model knows it. None where none was given.
    ///
    /// Given to the same version again, these make the same row, bit for bit.
    pub(crate) fn value(&self, index: usize) -> Option<InputValue<'_>> {
        let plan = &self.served.plan;
        let (input, mark) = (plan.inputs.get(index)?, self.inputs.marks.get(index).copied()?);
        let values = self.inputs.values.get(input.slot..input.slot + input.width)?;
        match (mark, input.dtype) {
            (ABSENT, _) => None,
            (UNKNOWN, DataType::Bytes) => Some(InputValue::Text(self.unknown_text(index))),
            (mark, DataType::Bytes) => Some(InputValue::Text(self.known_text(input, index, mark))),
            (_, DataType::Bool) => Some(InputValue::Flag(values.first().is_some_and(|flag| *flag != 0.0))),
            _ if input.is_vector => Some(InputValue::Vector(values)),
            _ => values.first().map(|number| InputValue::Number(*number)),
        }
    }

    /// Gives all values to a row of this or another version of the model, by the names of its inputs.
    #[allow(dead_code, reason = "for observers that predict again")]
    pub(crate) fn fill(&self, to: &Plan, row: &mut RowBuilder<'_>) {
        for (index, input) in self.served.plan.inputs.iter().enumerate() {
            if let (Some(value), Some(place)) = (self.value(index), to.input(&input.name)) {
                row.input(place, value);
            }
        }
    }

    fn known_text(&self, input: &PlannedInput, index: usize, mark: u32) -> &str {
        let Some(code) = mark.checked_sub(CODE).and_then(|code| usize::try_from(code).ok()) else { return ANY_TEXT };
        let manifest = &self.served.manifest;
        let text = if manifest.variant_by.as_ref() == Some(&input.name) {
            manifest.variants.get(code).map(|variant| variant.value.as_str())
        } else {
            manifest.inputs.get(index).and_then(|input| input.vocabulary.get(code)).map(String::as_str)
        };
        text.unwrap_or(ANY_TEXT)
    }

    /// The beginning of a text that is in no vocabulary.
    fn unknown_text(&self, index: usize) -> &str {
        let outside = self.out_of_distribution.iter().find(|outside| outside.input == index);
        outside.map_or(ANY_TEXT, |outside| outside.value.as_str())
    }
}
