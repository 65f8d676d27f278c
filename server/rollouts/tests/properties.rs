//! What holds for any key, any split of observations over replicas, and candidates that differ in nothing.

use ev_rollouts::{
    Answer, GuardState, Guards, Key, Observations, Phase, Plan, Readiness, Rollout, ShadowPlan, Share, Split, Step,
    View, judge,
};
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_larger_share_only_adds_keys(
        salt in "[a-z0-9-]{0,40}",
        key in proptest::collection::vec(any::<u8>(), 0..64),
        shares in (0.0..=100.0f64, 0.0..=100.0f64),
    ) {
        let split = Split::new(&salt);
        let (low, high) = (shares.0.min(shares.1), shares.0.max(shares.1));
        let takes = |percent| split.takes(Key::of(&key), Share::percent(percent).expect("a share"));
        prop_assert_eq!(takes(low), takes(low), "a key stays where it is");
        prop_assert!(!takes(low) || takes(high));
        prop_assert!(!takes(0.0) && takes(100.0));
    }

    /// Of 20,000 keys that differ in their last digits, which is what vehicle ids do.
    #[test]
    fn a_share_of_the_keys_is_what_was_asked_for(salt in "[a-z0-9-]{1,40}", percent in 0.5..=99.5f64) {
        const KEYS: u32 = 20_000;
        let (split, share) = (Split::new(&salt), Share::percent(percent).expect("a share"));
        let taken = (0..KEYS).filter(|key| split.takes(Key::of(format!("car-{key:06}").as_bytes()), share)).count();
        let p = percent / 100.0;
        // Six standard deviations: one in a billion.
        let bound = 6.0 * (f64::from(KEYS) * p * (1.0 - p)).sqrt();
        let off = taken as f64 - f64::from(KEYS) * p;
        prop_assert!(off.abs() <= bound, "{taken} of {KEYS} at {percent} %");
    }

    /// Rollouts choose anew: who is in one canary is no likelier in the next.
    #[test]
    fn rollouts_choose_independently(salts in ("[a-z]{4,20}", "[a-z]{4,20}")) {
        prop_assume!(salts.0 != salts.1);
        const KEYS: u32 = 20_000;
        let share = Share::percent(10.0).expect("a share");
        let (first, second) = (Split::new(&salts.0), Split::new(&salts.1));
        let key = |key: u32| Key::of(format!("car-{key:06}").as_bytes());
        let both = (0..KEYS)
            .filter(|index| first.takes(key(*index), share) && second.takes(key(*index), share))
            .count();
        let expected = f64::from(KEYS) * 0.01;
        prop_assert!((both as f64 - expected).abs() <= 6.0 * expected.sqrt(), "{both} in both");
    }

    /// Whichever replica saw which row, and in whatever order they are merged, the sum is what one process would have seen.
    #[test]
    fn observations_add_up(
        rows in proptest::collection::vec((0..4usize, 0..3usize, 1.0..1_000.0f64, 0.5..1.5f64, any::<bool>()), 0..200),
        turned in any::<bool>(),
    ) {
        let mut whole = Observations::default();
        let mut replicas = vec![Observations::default(); 4];
        for (replica, cohort, value, factor, outside) in rows {
            let cohort = ["", "a", "b"][cohort];
            for seen in [&mut whole, &mut replicas[replica]] {
                seen.compare(cohort, Answer::Value(value).into(), Some(Answer::Value(value * factor).into()));
                seen.baseline.answered(cohort, Answer::Value(value), outside);
                seen.candidate.answered(cohort, Answer::Value(value * factor), false);
                seen.baseline.latency_seconds.add(value / 1e6);
                seen.baseline.requests += 1;
                seen.baseline.errors += u64::from(outside);
            }
        }
        if turned {
            replicas.reverse();
        }
        let mut merged = Observations::default();
        replicas.iter().for_each(|replica| merged.merge(replica));
        prop_assert_eq!(&merged.baseline, &whole.baseline);
        prop_assert_eq!(merged.pair_count(), whole.pair_count());
        let states = |seen: &Observations| -> Vec<_> {
            judge(&Guards::default(), seen).into_iter().map(|status| (status.name, status.cohort, status.state)).collect()
        };
        prop_assert_eq!(states(&merged), states(&whole));
    }

    /// Replicas look whenever they like and store what they decided later, by compare-and-set, by one clock that may be
    /// set back and forth: every phase is entered once, in order, and lasts as long as planned.
    #[test]
    fn replicas_that_race_apply_each_transition_once(
        looks in proptest::collection::vec((0..3usize, -500..4_000i64, any::<bool>()), 1..80),
    ) {
        let plan = Plan { compare_percent: 100.0, ..quick() };
        let mut stored = (1u64, Rollout::start("r", "m", 3, 4, plan, "", 0).expect("a rollout"));
        let mut decided: [Option<(u64, Rollout)>; 3] = Default::default();
        let (mut now_ms, mut production) = (0, 3);
        for (replica, passed_ms, stores) in looks {
            now_ms += passed_ms;
            if stores && let Some((revision, rollout)) = decided[replica].take() && revision == stored.0 {
                let (since_ms, planned_ms) = (stored.1.phase_since_ms, planned_ms(&stored.1));
                prop_assert!(rollout.phase_since_ms - since_ms >= planned_ms, "{:?}", stored.1.phase);
                if rollout.phase == Phase::Promoted {
                    prop_assert_eq!(std::mem::replace(&mut production, 4), 3, "the alias moves once");
                }
                stored = (revision + 1, rollout);
            }
            let seen = agreeing(&stored.1);
            let view =
                View { now_ms, observations: &seen, candidate: &Readiness::Ready, production: Some(production) };
            decided[replica] = stored.1.tick(&view).map(|transition| (stored.0, transition.rollout));
        }
        let phases: Vec<Phase> = stored.1.history.iter().map(|event| event.phase).collect();
        let whole =
            [Phase::Pending, Phase::Shadowing, Phase::Canary(0), Phase::Canary(1), Phase::Baking, Phase::Promoted];
        prop_assert_eq!(phases.as_slice(), &whole[..phases.len()]);
        prop_assert_eq!(stored.0, phases.len() as u64);
    }

    /// No document, however it was damaged, makes a rollout panic, and an ended one stays where it is.
    #[test]
    fn any_document_can_be_ticked(
        phase in 0..8u32,
        step in any::<u32>(),
        epoch in 0..3u32,
        times in (any::<i64>(), any::<i64>(), proptest::option::of(any::<i64>())),
        production in proptest::option::of(2..5u32),
    ) {
        let mut rollout = Rollout::start("r", "m", 3, 4, Plan::default(), "", 0).expect("a rollout");
        rollout.phase = match phase {
            0 => Phase::Pending,
            1 => Phase::Shadowing,
            2 => Phase::Baking,
            3 => Phase::Promoted,
            4 => Phase::Aborted,
            5 => Phase::RolledBack,
            _ => Phase::Canary(step),
        };
        (rollout.phase_since_ms, rollout.paused_since_ms, rollout.epoch) = (times.0, times.2, epoch);
        let seen = Observations { epoch: 1, ..Observations::default() };
        let view = View { now_ms: times.1, observations: &seen, candidate: &Readiness::Ready, production };
        let transition = rollout.tick(&view);
        prop_assert!(rollout.phase.is_active() || transition.is_none());
        if let Some(transition) = transition {
            prop_assert!(transition.rollout.epoch > rollout.epoch);
        }
    }
}

/// A plan of seconds.
fn quick() -> Plan {
    let step = |percent| Step { percent, duration_ms: 2_000, minimum_requests: 10 };
    Plan {
        shadow: Some(ShadowPlan { duration_ms: 1_000, minimum_pairs: 10 }),
        steps: vec![step(5.0), step(50.0)],
        bake_ms: 3_000,
        ..Plan::default()
    }
}

/// How long a phase of [`quick`] lasts.
fn planned_ms(rollout: &Rollout) -> i64 {
    match rollout.phase {
        Phase::Shadowing => 1_000,
        Phase::Canary(_) => 2_000,
        Phase::Baking => 3_000,
        // Its candidate is loaded; a clock that is set back makes it no shorter.
        _ => i64::MIN,
    }
}

/// As many rows as any phase needs, about which both versions agree.
fn agreeing(rollout: &Rollout) -> Observations {
    let mut seen = Observations { epoch: rollout.epoch, ..Observations::default() };
    for row in 0..10u8 {
        let value = 100.0 + f64::from(row);
        seen.compare("", Answer::Value(value).into(), Some(Answer::Value(value).into()));
    }
    seen.candidate.requests = 10;
    seen
}

/// A candidate that differs in nothing but its noise is not taken back, though it is looked at ten thousand times.
#[test]
fn noise_takes_nothing_back() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut failed = 0;
    for _ in 0..20 {
        let mut seen = Observations::default();
        for _ in 0..10_000 {
            let value = 200.0 + 300.0 * random.f64();
            let noisy = value * (1.0 + 0.09 * (random.f64() - 0.5) * 4.0);
            seen.baseline.answered("", Answer::Value(200.0 + 300.0 * random.f64()), random.f64() < 0.02);
            seen.candidate.answered("", Answer::Value(200.0 + 300.0 * random.f64()), random.f64() < 0.02);
            seen.compare("", Answer::Value(value).into(), Some(Answer::Value(noisy).into()));
            for side in [&mut seen.baseline, &mut seen.candidate] {
                side.requests += 1;
                side.errors += u64::from(random.f64() < 0.01);
                side.latency_seconds.add(0.002 * (1.0 + random.f64()));
            }
            if seen.pair_count() % 100 == 0 {
                let statuses = judge(&Guards::default(), &seen);
                failed += statuses.iter().filter(|status| status.state == GuardState::Failing).count();
            }
        }
    }
    assert_eq!(failed, 0);
}
