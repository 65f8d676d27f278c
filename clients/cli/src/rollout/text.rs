//! Rollouts in a few words, and on a page.

use std::fmt::Write as _;

use anstyle::Style;
use ev_client::proto::ev::registry::v1::{
    Rollout, RolloutEvent, RolloutGuard, RolloutGuardState, RolloutSide, RolloutState,
};
use prost_types::Timestamp;

use crate::{
    interval::share_bar,
    style::{ACCENT, BAD, BOLD, DIM, GOOD, PLAIN, WARN, harmless},
    table::{Cell, Table},
    telemetry::time,
};

/// What a rollout is called by the API.
pub(super) const MESSAGE: &str = "ev.registry.v1.Rollout";
/// Events that a page shows.
const EVENTS: usize = 6;

/// Where it is, at a glance.
pub(super) fn state(rollout: &Rollout) -> (String, Style) {
    let name =
        |state: RolloutState| state.as_str_name().trim_start_matches("ROLLOUT_STATE_").to_lowercase().replace('_', " ");
    let step = |state: RolloutState| match state {
        RolloutState::Canary => {
            let steps = rollout.plan.as_ref().map_or(0, |plan| plan.steps.len());
            format!("canary, step {} of {steps}", rollout.step)
        }
        state => name(state),
    };
    match rollout.state() {
        RolloutState::Paused if rollout.paused_in() == RolloutState::Unspecified => ("paused".to_owned(), WARN),
        RolloutState::Paused => (format!("paused ({})", step(rollout.paused_in())), WARN),
        state @ RolloutState::Promoted => (step(state), GOOD),
        state @ (RolloutState::Aborted | RolloutState::RolledBack) => (step(state), BAD),
        state => (step(state), ACCENT),
    }
}

pub(super) fn is_over(rollout: &Rollout) -> bool {
    matches!(rollout.state(), RolloutState::Promoted | RolloutState::Aborted | RolloutState::RolledBack)
}

/// One line: which, where, how much, why.
pub(super) fn line(rollout: &Rollout) -> String {
    let Rollout { model, baseline_version: from, candidate_version: to, percent, reason, .. } = rollout;
    let (state, style) = state(rollout);
    let share = if *percent > 0.0 { format!(", {percent} % of the requests") } else { String::new() };
    let progress = if rollout.needed > 0 { format!(", {} of {}", rollout.had, rollout.needed) } else { String::new() };
    let left = left(rollout).map_or_else(String::new, |left| format!(", {left}"));
    let worst = rollout
        .guards
        .iter()
        .find(|guard| is_wrong(guard))
        .map_or_else(String::new, |guard| format!(", {WARN}{} {}{WARN:#}", guard.name, verdict(guard).0));
    let reason = harmless(reason);
    format!(
        "{BOLD}{model}{BOLD:#} {from} -> {to}  {style}{state}{style:#}{share}{progress}{left}{worst}  {DIM}{reason}{DIM:#}"
    )
}

/// As [`line`], of what happened before it: without counts, which are of now.
pub(super) fn past_line(rollout: &Rollout, event: &RolloutEvent) -> String {
    let Rollout { model, baseline_version, candidate_version, plan, .. } = rollout.clone();
    let (state, step, reason) = (event.state, event.step, event.reason.clone());
    line(&Rollout { model, baseline_version, candidate_version, plan, state, step, reason, ..Rollout::default() })
}

/// All there is to see.
pub(super) fn page(rollout: &Rollout) -> String {
    let Rollout { id, model, baseline_version: from, candidate_version: to, percent, .. } = rollout;
    let (state, style) = state(rollout);
    let mut page =
        format!("{BOLD}{model}{BOLD:#} version {from} -> {to}   {style}{state}{style:#}   {DIM}{id}{DIM:#}\n");
    #[expect(clippy::cast_possible_truncation, reason = "0 to 1, drawn in 32 cells")]
    let share = (percent / 100.0) as f32;
    let _ = writeln!(page, "{}   {percent} % of the requests go to version {to}", share_bar(share));
    let what = if rollout.state() == RolloutState::Shadowing { "rows compared" } else { "requests" };
    let mut facts = Vec::new();
    if !is_over(rollout) {
        facts.push(if rollout.needed > 0 {
            format!("{} of {} {what}", rollout.had, rollout.needed)
        } else {
            format!("{} {what}", rollout.had)
        });
        facts.extend(left(rollout));
    }
    facts.push(format!("{} rows run by both", rollout.pairs));
    if rollout.hung_comparisons > 0 {
        facts.push(format!("{} threads hang in rows of the candidate", rollout.hung_comparisons));
    }
    if rollout.dropped > 0 {
        facts.push(format!("{} not compared for want of time", rollout.dropped));
    }
    let _ = writeln!(page, "{}\n", facts.join(", "));
    let mut sides = Table::new([
        "version",
        "requests",
        "failed",
        "run to compare",
        "failed",
        "p99",
        "answers seen",
        "out of distribution",
    ]);
    sides.row(side(format!("{from} (production)"), rollout.baseline.unwrap_or_default()));
    sides.row(side(format!("{to} (candidate)"), rollout.candidate.unwrap_or_default()));
    let _ = writeln!(page, "{}", sides.render());
    if !rollout.guards.is_empty() {
        let mut guards = Table::new(["guard", "of", "found", "limit", "counted", "verdict"]);
        rollout.guards.iter().for_each(|found| guards.row(guard(found)));
        let _ = writeln!(page, "{}", guards.render());
    }
    let skipped = rollout.events.len().saturating_sub(EVENTS);
    for event in rollout.events.iter().skip(skipped) {
        let by = if event.by.is_empty() { String::new() } else { format!(" ({})", harmless(&event.by)) };
        let state = event.state().as_str_name().trim_start_matches("ROLLOUT_STATE_").to_lowercase().replace('_', " ");
        let (at, reason) = (moment(event.at.as_ref()), harmless(&event.reason));
        let _ = writeln!(page, "{DIM}{at}{DIM:#}  {state}: {reason}{by}");
    }
    page
}

fn side(name: String, side: RolloutSide) -> [Cell; 8] {
    let RolloutSide { requests, errors, latency_p99_seconds, answers, out_of_distribution, runs, run_errors } = side;
    let latency =
        if latency_p99_seconds > 0.0 { format!("{:.3} ms", latency_p99_seconds * 1e3) } else { "-".to_owned() };
    let failed = |count: u64| Cell::styled(count.to_string(), if count > 0 { WARN } else { PLAIN });
    [
        name.into(),
        requests.to_string().into(),
        failed(errors),
        runs.to_string().into(),
        failed(run_errors),
        latency.into(),
        answers.to_string().into(),
        out_of_distribution.to_string().into(),
    ]
}

fn guard(guard: &RolloutGuard) -> [Cell; 6] {
    let of = match (guard.cohort.as_str(), guard.class.as_str()) {
        ("", "") => "all".to_owned(),
        (cohort, "") => harmless(cohort),
        ("", class) => format!("class {}", harmless(class)),
        (cohort, class) => harmless(&format!("{cohort}, class {class}")),
    };
    let bound = if guard.name == "coverage" { ">=" } else { "<=" };
    let (verdict, style) = verdict(guard);
    [
        guard.name.clone().into(),
        of.into(),
        guard.value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}")).into(),
        format!("{bound} {}", guard.limit).into(),
        format!("{} of {}", guard.count, guard.needed).into(),
        Cell::styled(verdict, style),
    ]
}

fn verdict(guard: &RolloutGuard) -> (&'static str, Style) {
    match guard.state() {
        RolloutGuardState::Unspecified => ("", PLAIN),
        RolloutGuardState::Waiting => ("waiting", DIM),
        RolloutGuardState::Passing => ("passes", GOOD),
        RolloutGuardState::Uncertain => ("too high, perhaps by chance", WARN),
        RolloutGuardState::Failing => ("FAILS", BAD),
    }
}

fn is_wrong(guard: &RolloutGuard) -> bool {
    matches!(guard.state(), RolloutGuardState::Uncertain | RolloutGuardState::Failing)
}

fn left(rollout: &Rollout) -> Option<String> {
    let left = std::time::Duration::try_from(rollout.time_left?).ok()?;
    let whole = std::time::Duration::from_secs(left.as_secs());
    Some(if left.is_zero() { "time is over".to_owned() } else { format!("{} left", humantime::format_duration(whole)) })
}

pub(super) fn moment(moment: Option<&Timestamp>) -> String {
    moment.map(|moment| time::text(time::microseconds(moment) / 1_000_000 * 1_000_000)).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use anstream::adapter::strip_str;

    /// A rollout of which too little was seen.
    pub(in super::super) fn shadowing() -> Rollout {
        let at = Some(Timestamp { seconds: 1_767_225_600, nanos: 0 });
        let guard = RolloutGuard {
            name: "disagreement_relative".to_owned(),
            value: Some(0.379),
            limit: 0.1,
            count: 60,
            needed: 100,
            state: RolloutGuardState::Waiting.into(),
            ..RolloutGuard::default()
        };
        Rollout {
            id: "r-1".to_owned(),
            model: "ev-range".to_owned(),
            baseline_version: 3,
            candidate_version: 4,
            state: RolloutState::Shadowing.into(),
            created_at: at,
            had: 60,
            needed: 1_000,
            pairs: 60,
            time_left: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
            reason: "the candidate is loaded".to_owned(),
            guards: vec![guard],
            events: vec![RolloutEvent {
                at,
                state: RolloutState::Pending.into(),
                reason: "version 4 shall follow version 3".to_owned(),
                by: "kim\x1b[2J".to_owned(),
                ..RolloutEvent::default()
            }],
            ..Rollout::default()
        }
    }

    #[test]
    fn a_rollout_is_a_line() {
        let check = |rollout: &Rollout, expected: &str| assert_eq!(strip_str(&line(rollout)).to_string(), expected);
        check(&shadowing(), "ev-range 3 -> 4  shadowing, 60 of 1000, 1m 30s left  the candidate is loaded");
        let mut failing = shadowing();
        failing.guards[0].state = RolloutGuardState::Failing.into();
        check(
            &failing,
            "ev-range 3 -> 4  shadowing, 60 of 1000, 1m 30s left, disagreement_relative FAILS  the candidate is loaded",
        );
        let canary = Rollout { state: RolloutState::Canary.into(), step: 2, percent: 25.0, ..shadowing() };
        check(
            &canary,
            "ev-range 3 -> 4  canary, step 2 of 0, 25 % of the requests, 60 of 1000, 1m 30s left  the candidate is loaded",
        );
    }

    #[test]
    fn a_page_has_guards_with_their_limits_and_cannot_move_the_cursor() {
        let page = strip_str(&page(&shadowing())).to_string();
        for part in [
            "ev-range version 3 -> 4   shadowing   r-1",
            "0 % of the requests go to version 4",
            "60 of 1000 rows compared, 1m 30s left, 60 rows run by both",
            "disagreement_relative   all   0.3790   <= 0.1   60 of 100   waiting",
            "2026-01-01T00:00:00Z  pending: version 4 shall follow version 3 (kim [2J)",
        ] {
            assert!(page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains('\x1b'));
    }
}
