//! A rollout and how it goes on.

use serde::{Deserialize, Serialize};

use crate::{GuardState, Observations, Plan, RolloutError, ShadowPlan, Share, judge};

/// Entries of a history that are kept: the first, and the latest of the others.
pub const HISTORY_MAX: usize = 100;
/// Longest reason, in bytes; what is longer is cut.
pub const REASON_BYTES_MAX: usize = 1_024;

/// A candidate on its way to production: a document, changed by making another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its name, and the salt of its split.
    pub id: String,
    /// Model name.
    pub model: String,
    /// The version that was `production` when it began.
    pub baseline: u32,
    /// The version that shall be.
    pub candidate: u32,
    /// What is planned.
    pub plan: Plan,
    /// Where it is.
    pub phase: Phase,
    /// When that phase began, in milliseconds since 1970, moved on by the time it was paused.
    pub phase_since_ms: i64,
    /// Counts phases; observations are of one.
    pub epoch: u32,
    /// Since when it is paused.
    pub paused_since_ms: Option<i64>,
    /// When it was started.
    pub created_at_ms: i64,
    /// What has happened, oldest first.
    pub history: Vec<Event>,
}

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name", content = "step")]
pub enum Phase {
    /// The candidate is being loaded.
    Pending,
    /// Nobody gets the candidate's answers.
    Shadowing,
    /// The step's share of the requests goes to the candidate.
    Canary(u32),
    /// All requests go to the candidate, and production can be had back at once.
    Baking,
    /// The candidate is production.
    Promoted,
    /// Somebody ended it; production is what it was.
    Aborted,
    /// A guard, a failure or somebody took it back; production is what it was.
    RolledBack,
}

/// Something that happened to a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Where the rollout was after it.
    pub phase: Phase,
    /// Whether it was paused after it.
    pub paused: bool,
    /// Why, in a sentence.
    pub reason: String,
    /// Who asked for it; empty where the rollout went on by itself.
    pub by: String,
}

/// What somebody may ask of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stay where it is; guards go on.
    Pause,
    /// Go on.
    Resume,
    /// Make the candidate production now.
    Promote,
    /// End it; production stays what it was.
    Abort,
    /// Take the candidate back, also after it was promoted.
    Rollback,
}

/// Whether the candidate can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It is being loaded.
    Loading,
    /// It can.
    Ready,
    /// It cannot: why.
    Failed(String),
}

/// What a rollout is judged by.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// What all replicas saw.
    pub observations: &'a Observations,
    /// Whether the candidate can answer.
    pub candidate: &'a Readiness,
    /// What the alias `production` points at.
    pub production: Option<u32>,
}

/// How a rollout goes on. It has happened when the document was stored and the alias moved, both or neither.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// The rollout after it.
    pub rollout: Rollout,
    /// What becomes of the alias `production`.
    pub production: Option<Move>,
}

/// A move of the alias `production`, if it is still where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The version it points at now.
    pub from: u32,
    /// The version it shall point at.
    pub to: u32,
}

// === impl Rollout ===

impl Rollout {
    /// A rollout that waits for its candidate.
    ///
    /// # Errors
    ///
    /// [`RolloutError::InvalidPlan`] and [`RolloutError::SameVersion`].
    pub fn start(
        id: &str,
        model: &str,
        baseline: u32,
        candidate: u32,
        plan: Plan,
        by: &str,
        now_ms: i64,
    ) -> Result<Rollout, RolloutError> {
        plan.check()?;
        if baseline == candidate {
            return Err(RolloutError::SameVersion { model: model.to_owned(), version: candidate });
        }
        let reason = format!("version {candidate} shall follow version {baseline}");
        let event = Event { at_ms: now_ms, phase: Phase::Pending, paused: false, reason, by: clipped(by) };
        Ok(Rollout {
            id: id.to_owned(),
            model: model.to_owned(),
            baseline,
            candidate,
            plan,
            phase: Phase::Pending,
            phase_since_ms: now_ms,
            epoch: 0,
            paused_since_ms: None,
            created_at_ms: now_ms,
            history: vec![event],
        })
    }

    /// The share of the requests that goes to the candidate now.
    #[must_use]
    pub fn share(&self) -> Share {
        match self.phase {
            Phase::Canary(step) => self.step(step).map_or(Share::NONE, |step| step.share()),
            Phase::Baking => Share::ALL,
            // Promoted, it is production.
            Phase::Pending | Phase::Shadowing | Phase::Promoted | Phase::Aborted | Phase::RolledBack => Share::NONE,
        }
    }

    /// The share of the rows that both versions run.
    #[must_use]
    pub fn compared(&self) -> Share {
        match self.phase {
            Phase::Shadowing | Phase::Canary(_) | Phase::Baking => {
                Share::percent(self.plan.compare_percent).unwrap_or(Share::NONE)
            }
            Phase::Pending | Phase::Promoted | Phase::Aborted | Phase::RolledBack => Share::NONE,
        }
    }

    /// When the phase can end at the earliest, in milliseconds from now; none where it has no end.
    #[must_use]
    pub fn time_left_ms(&self, now_ms: i64) -> Option<u64> {
        let planned = match self.phase {
            Phase::Shadowing => self.plan.shadow.map_or(0, |shadow| shadow.duration_ms),
            Phase::Canary(step) => self.step(step)?.duration_ms,
            Phase::Baking => self.plan.bake_ms,
            Phase::Pending | Phase::Promoted | Phase::Aborted | Phase::RolledBack => return None,
        };
        let now_ms = self.paused_since_ms.unwrap_or(now_ms);
        let spent = u64::try_from(now_ms.saturating_sub(self.phase_since_ms)).unwrap_or(0);
        Some(planned.saturating_sub(spent))
    }

    /// Requests or pairs that the phase has had, and how many it needs.
    #[must_use]
    pub fn progress(&self, seen: &Observations) -> (u64, u64) {
        let seen_here = seen.epoch == self.epoch;
        let of = |count: u64| if seen_here { count } else { 0 };
        match self.phase {
            Phase::Shadowing => {
                (of(seen.pair_count()), self.plan.shadow.map_or(0, |ShadowPlan { minimum_pairs, .. }| minimum_pairs))
            }
            Phase::Canary(step) => {
                (of(seen.candidate.requests), self.step(step).map_or(0, |step| step.minimum_requests))
            }
            _ => (of(seen.candidate.requests), 0),
        }
    }

    /// How it goes on by itself: nothing where it stays.
    #[must_use]
    pub fn tick(&self, view: &View<'_>) -> Option<Transition> {
        if !self.phase.is_active() {
            return None;
        }
        if view.production != Some(self.baseline) {
            let now = view.production.map_or("nothing".to_owned(), |version| format!("version {version}"));
            let reason = format!("`production` was moved to {now} beside the rollout");
            return Some(self.ended(Phase::Aborted, reason, "", view.now_ms));
        }
        if let Readiness::Failed(reason) = view.candidate {
            let reason = format!("version {} cannot serve: {reason}", self.candidate);
            return Some(self.ended(Phase::RolledBack, reason, "", view.now_ms));
        }
        let is_pending = self.phase == Phase::Pending;
        if is_pending {
            let is_ready = *view.candidate == Readiness::Ready && self.paused_since_ms.is_none();
            return is_ready.then(|| self.entered(self.first(), "the candidate is loaded", "", view.now_ms));
        }
        let seen = view.observations;
        if seen.epoch != self.epoch {
            return None;
        }
        let statuses = judge(&self.plan.guards, seen);
        if let Some(failing) = statuses.iter().find(|status| status.state == GuardState::Failing) {
            return Some(self.ended(Phase::RolledBack, failing.reason(), "", view.now_ms));
        }
        let (had, needed) = self.progress(seen);
        let is_due = self.time_left_ms(view.now_ms) == Some(0) && had >= needed;
        let is_sure = statuses.iter().all(|status| status.state != GuardState::Uncertain);
        if !is_due || !is_sure || self.paused_since_ms.is_some() {
            return None;
        }
        let reason = format!("{} of {needed} needed, all guards pass", counted(self.phase, had));
        Some(match self.next() {
            Phase::Promoted => self.promoted(&reason, "", view.now_ms),
            next => self.entered(next, &reason, "", view.now_ms),
        })
    }

    /// Does what somebody asks for.
    ///
    /// # Errors
    ///
    /// [`RolloutError::NotNow`] where the rollout is past that.
    pub fn act(&self, action: Action, reason: &str, by: &str, now_ms: i64) -> Result<Transition, RolloutError> {
        let not_now = |expected| Err(RolloutError::NotNow { action, phase: self.phase, expected });
        let is_active = self.phase.is_active();
        let reason = if reason.is_empty() { "asked for" } else { reason };
        match (action, self.paused_since_ms) {
            (Action::Rollback, _) if self.phase == Phase::Promoted => {
                let back = Move { from: self.candidate, to: self.baseline };
                let rollout = self.ended(Phase::RolledBack, reason.to_owned(), by, now_ms).rollout;
                Ok(Transition { rollout, production: Some(back) })
            }
            (Action::Rollback, _) if is_active => Ok(self.ended(Phase::RolledBack, reason.to_owned(), by, now_ms)),
            (Action::Rollback, _) => not_now("under way or promoted"),
            _ if !is_active => not_now("under way"),
            (Action::Abort, _) => Ok(self.ended(Phase::Aborted, reason.to_owned(), by, now_ms)),
            (Action::Promote, _) if self.phase == Phase::Pending => not_now("past loading the candidate"),
            (Action::Promote, _) => Ok(self.promoted(reason, by, now_ms)),
            (Action::Pause, None) => {
                let mut rollout = self.clone();
                rollout.paused_since_ms = Some(now_ms);
                rollout.note(reason, by, now_ms);
                Ok(Transition { rollout, production: None })
            }
            (Action::Resume, Some(since_ms)) => {
                let mut rollout = self.clone();
                rollout.paused_since_ms = None;
                let paused_ms = now_ms.saturating_sub(since_ms).max(0);
                rollout.phase_since_ms = self.phase_since_ms.saturating_add(paused_ms);
                rollout.note(reason, by, now_ms);
                Ok(Transition { rollout, production: None })
            }
            (Action::Pause, Some(_)) => not_now("not paused"),
            (Action::Resume, None) => not_now("paused"),
        }
    }

    fn step(&self, step: u32) -> Option<&crate::Step> {
        self.plan.steps.get(usize::try_from(step).ok()?)
    }

    fn first(&self) -> Phase {
        if self.plan.shadow.is_some() { Phase::Shadowing } else { self.canary(0) }
    }

    fn next(&self) -> Phase {
        match self.phase {
            Phase::Pending => self.first(),
            Phase::Shadowing => self.canary(0),
            Phase::Canary(step) => self.canary(step.saturating_add(1)),
            Phase::Baking => Phase::Promoted,
            ended => ended,
        }
    }

    fn canary(&self, step: u32) -> Phase {
        match self.step(step) {
            Some(_) => Phase::Canary(step),
            None if self.plan.bake_ms == 0 => Phase::Promoted,
            None => Phase::Baking,
        }
    }

    fn entered(&self, phase: Phase, reason: &str, by: &str, now_ms: i64) -> Transition {
        let mut rollout = self.clone();
        rollout.phase = phase;
        rollout.phase_since_ms = now_ms;
        rollout.epoch = self.epoch.saturating_add(1);
        rollout.note(reason, by, now_ms);
        Transition { rollout, production: None }
    }

    fn ended(&self, phase: Phase, reason: String, by: &str, now_ms: i64) -> Transition {
        let mut transition = self.entered(phase, &reason, by, now_ms);
        // An end is no pause.
        transition.rollout.paused_since_ms = None;
        if let Some(event) = transition.rollout.history.last_mut() {
            event.paused = false;
        }
        transition
    }

    fn promoted(&self, reason: &str, by: &str, now_ms: i64) -> Transition {
        let transition = self.ended(Phase::Promoted, reason.to_owned(), by, now_ms);
        Transition { production: Some(Move { from: self.baseline, to: self.candidate }), ..transition }
    }

    fn note(&mut self, reason: &str, by: &str, now_ms: i64) {
        if self.history.len() >= HISTORY_MAX {
            // The first says who began it.
            self.history.remove(1);
        }
        let (phase, paused) = (self.phase, self.paused_since_ms.is_some());
        self.history.push(Event { at_ms: now_ms, phase, paused, reason: clipped(reason), by: clipped(by) });
    }
}

/// What a phase counts.
fn counted(phase: Phase, count: u64) -> String {
    let what = if phase == Phase::Shadowing { "compared rows" } else { "requests" };
    format!("{count} {what}")
}

/// As much of a text as is kept.
fn clipped(text: &str) -> String {
    let end = (0..=REASON_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

// === impl Phase ===

impl Phase {
    /// Whether the rollout goes on from here.
    #[must_use]
    pub fn is_active(self) -> bool {
        match self {
            Phase::Pending | Phase::Shadowing | Phase::Canary(_) | Phase::Baking => true,
            Phase::Promoted | Phase::Aborted | Phase::RolledBack => false,
        }
    }

    /// As sentences say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Phase::Pending => "pending",
            Phase::Shadowing => "shadowing",
            Phase::Canary(_) => "canary",
            Phase::Baking => "baking",
            Phase::Promoted => "promoted",
            Phase::Aborted => "aborted",
            Phase::RolledBack => "rolled back",
        }
    }
}

// === impl Action ===

impl Action {
    /// As sentences say it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::Pause => "pause",
            Action::Resume => "resume",
            Action::Promote => "promote",
            Action::Abort => "abort",
            Action::Rollback => "rollback",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, Guards, Step};

    fn plan() -> Plan {
        let step = |percent| Step { percent, duration_ms: 1_000, minimum_requests: 10 };
        Plan {
            shadow: Some(ShadowPlan { duration_ms: 1_000, minimum_pairs: 10 }),
            steps: vec![step(5.0), step(50.0)],
            bake_ms: 1_000,
            ..Plan::default()
        }
    }

    fn started(plan: Plan) -> Rollout {
        Rollout::start("r-1", "ev-range", 3, 4, plan, "kim", 0).expect("a rollout")
    }

    /// Ten requests and pairs that agree, in the rollout's phase.
    fn seen(rollout: &Rollout, factor: f64) -> Observations {
        let mut seen = Observations { epoch: rollout.epoch, ..Observations::default() };
        for row in 0..10 {
            let production = 100.0 + f64::from(row);
            seen.compare("", Answer::Value(production).into(), Some(Answer::Value(production * factor).into()));
        }
        seen.candidate.requests = 10;
        seen
    }

    fn tick(rollout: &Rollout, now_ms: i64, seen: &Observations) -> Option<Transition> {
        let view = View { now_ms, observations: seen, candidate: &Readiness::Ready, production: Some(3) };
        rollout.tick(&view)
    }

    #[test]
    fn a_good_candidate_goes_all_the_way() {
        let mut rollout = started(plan());
        let mut found = Vec::new();
        let mut now_ms = 0;
        while rollout.phase.is_active() {
            let seen = seen(&rollout, 1.0);
            assert!(
                rollout.phase == Phase::Pending || tick(&rollout, now_ms + 999, &seen).is_none(),
                "not before its time: {:?}",
                rollout.phase
            );
            now_ms += 1_000;
            let transition = tick(&rollout, now_ms, &seen).expect("it goes on");
            found.push((transition.rollout.phase, transition.rollout.share().as_percent(), transition.production));
            rollout = transition.rollout;
        }
        let expected = [
            (Phase::Shadowing, 0.0, None),
            (Phase::Canary(0), 5.0, None),
            (Phase::Canary(1), 50.0, None),
            (Phase::Baking, 100.0, None),
            (Phase::Promoted, 0.0, Some(Move { from: 3, to: 4 })),
        ];
        assert_eq!(found, expected);
        assert_eq!(rollout.history.len(), 6);
        assert!(tick(&rollout, now_ms + 1_000_000, &Observations::default()).is_none());
    }

    #[test]
    fn phases_that_are_not_planned_are_skipped() {
        let check = |plan: Plan, expected: &[Phase]| {
            let mut rollout = started(plan);
            let mut found = Vec::new();
            while rollout.phase.is_active() {
                let now_ms = rollout.phase_since_ms + 1_000_000_000;
                rollout = tick(&rollout, now_ms, &seen(&rollout, 1.0)).expect("it goes on").rollout;
                found.push(rollout.phase);
            }
            assert_eq!(found, expected);
        };
        let shadow_only = Plan { steps: Vec::new(), bake_ms: 0, ..plan() };
        check(shadow_only, &[Phase::Shadowing, Phase::Promoted]);
        check(Plan { shadow: None, bake_ms: 0, ..plan() }, &[Phase::Canary(0), Phase::Canary(1), Phase::Promoted]);
    }

    #[test]
    fn it_waits_for_requests_and_for_guards_that_are_not_sure() {
        let rollout = tick(&started(plan()), 0, &Observations::default()).expect("loaded").rollout;
        let check = |seen: &Observations, expected: Option<Phase>| {
            let found = tick(&rollout, 10_000, seen).map(|transition| transition.rollout.phase);
            assert_eq!(found, expected);
        };
        check(&seen(&rollout, 1.0), Some(Phase::Canary(0)));
        check(&Observations { epoch: rollout.epoch, ..Observations::default() }, None);
        // What was seen of the phase before says nothing.
        check(&Observations { epoch: rollout.epoch - 1, ..seen(&rollout, 1.0) }, None);
        let mut unsure = Observations { epoch: rollout.epoch, ..Observations::default() };
        for row in 0..200 {
            let factor = if row % 4 == 0 { 0.5 } else { 1.0 };
            unsure.compare("", Answer::Value(100.0).into(), Some(Answer::Value(100.0 * factor).into()));
        }
        check(&unsure, None);
    }

    #[test]
    fn a_failed_guard_takes_it_back_and_says_why() {
        let guards = Guards { minimum: 10, ..Guards::default() };
        let rollout = tick(&started(Plan { guards, ..plan() }), 0, &Observations::default()).expect("loaded").rollout;
        let transition = tick(&rollout, 1, &seen(&rollout, 0.621)).expect("at once");
        assert_eq!((transition.rollout.phase, transition.production), (Phase::RolledBack, None));
        let reason = &transition.rollout.history.last().expect("an event").reason;
        assert!(reason.starts_with("guard disagreement_relative is 0.3790 over 10"), "{reason}");
        // Paused, guards go on.
        let paused = rollout.act(Action::Pause, "", "kim", 0).expect("paused").rollout;
        assert_eq!(tick(&paused, 1, &seen(&paused, 0.621)).expect("back").rollout.phase, Phase::RolledBack);
    }

    #[test]
    fn a_candidate_that_cannot_serve_and_a_moved_alias_end_it() {
        let rollout = started(plan());
        let seen = Observations::default();
        let check = |candidate: &Readiness, production: Option<u32>, expected: Option<(Phase, &str)>| {
            let view = View { now_ms: 5, observations: &seen, candidate, production };
            let found = rollout.tick(&view).map(|transition| transition.rollout);
            let found =
                found.as_ref().map(|rollout| (rollout.phase, rollout.history.last().map_or("", |event| &event.reason)));
            assert_eq!(found, expected);
        };
        check(&Readiness::Loading, Some(3), None);
        check(&Readiness::Ready, Some(3), Some((Phase::Shadowing, "the candidate is loaded")));
        let failed = Readiness::Failed("no such backend".to_owned());
        check(&failed, Some(3), Some((Phase::RolledBack, "version 4 cannot serve: no such backend")));
        let moved = "`production` was moved to version 7 beside the rollout";
        check(&Readiness::Ready, Some(7), Some((Phase::Aborted, moved)));
        check(&Readiness::Ready, None, Some((Phase::Aborted, "`production` was moved to nothing beside the rollout")));
    }

    #[test]
    fn a_pause_takes_no_time() {
        let rollout = tick(&started(plan()), 0, &Observations::default()).expect("loaded").rollout;
        let paused = rollout.act(Action::Pause, "lunch", "kim", 400).expect("paused").rollout;
        assert_eq!(paused.time_left_ms(9_000), Some(600));
        assert_eq!(tick(&paused, 9_000, &seen(&paused, 1.0)), None);
        let resumed = paused.act(Action::Resume, "", "kim", 9_000).expect("resumed").rollout;
        assert_eq!(resumed.time_left_ms(9_000), Some(600));
        assert_eq!(tick(&resumed, 9_500, &seen(&resumed, 1.0)), None);
        assert!(tick(&resumed, 9_600, &seen(&resumed, 1.0)).is_some());
    }

    #[test]
    fn actions_apply_where_they_mean_something() {
        let pending = started(plan());
        let shadowing = tick(&pending, 0, &Observations::default()).expect("loaded").rollout;
        let paused = shadowing.act(Action::Pause, "", "", 0).expect("paused").rollout;
        let promoted = shadowing.act(Action::Promote, "", "", 0).expect("promoted").rollout;
        let aborted = shadowing.act(Action::Abort, "", "", 0).expect("aborted").rollout;
        let check = |rollout: &Rollout, action: Action, expected: Result<(Phase, Option<Move>), &str>| {
            let found = rollout.act(action, "", "kim", 1);
            let found = found.map(|transition| (transition.rollout.phase, transition.production));
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{action:?}");
        };
        check(&pending, Action::Abort, Ok((Phase::Aborted, None)));
        check(
            &pending,
            Action::Promote,
            Err(
                "the rollout is pending, which promote does not apply to; it applies to rollouts that are past loading the candidate",
            ),
        );
        check(&shadowing, Action::Rollback, Ok((Phase::RolledBack, None)));
        check(&paused, Action::Promote, Ok((Phase::Promoted, Some(Move { from: 3, to: 4 }))));
        check(
            &shadowing,
            Action::Resume,
            Err("the rollout is shadowing, which resume does not apply to; it applies to rollouts that are paused"),
        );
        check(&promoted, Action::Rollback, Ok((Phase::RolledBack, Some(Move { from: 4, to: 3 }))));
        check(
            &promoted,
            Action::Abort,
            Err("the rollout is promoted, which abort does not apply to; it applies to rollouts that are under way"),
        );
        check(
            &aborted,
            Action::Rollback,
            Err(
                "the rollout is aborted, which rollback does not apply to; it applies to rollouts that are under way or promoted",
            ),
        );
    }

    #[test]
    fn histories_and_reasons_are_bounded() {
        let mut rollout = started(plan());
        for _ in 0..HISTORY_MAX {
            rollout = rollout.act(Action::Pause, &"ä".repeat(2_000), "kim", 0).expect("paused").rollout;
            rollout = rollout.act(Action::Resume, "", "kim", 0).expect("resumed").rollout;
        }
        assert_eq!(rollout.history.len(), HISTORY_MAX);
        assert_eq!(rollout.history[0].reason, "version 4 shall follow version 3");
        assert!(rollout.history.iter().all(|event| event.reason.len() <= REASON_BYTES_MAX));
    }

    #[test]
    fn a_rollout_is_a_document() {
        let rollout = tick(&started(Plan { shadow: None, ..plan() }), 0, &Observations::default()).expect("on").rollout;
        let json = serde_json::to_string(&rollout).expect("JSON");
        assert_eq!(serde_json::from_str::<Rollout>(&json).expect("a rollout"), rollout);
        let seen = seen(&rollout, 0.9);
        let json = serde_json::to_string(&seen).expect("JSON");
        assert_eq!(serde_json::from_str::<Observations>(&json).expect("observations"), seen);
    }
}
