//! The life of an alert.

use ev_alerts::{
    AlertError, AlertEvent, Alerts, AlertsConfig, Assessment, Book, Cause, Filter, Happening, LifeConfig, Notice,
    Origin, Page, Quantity, Report, State, Topic,
};
use ev_domain::{RiskClass, Severity, VehicleId};
use proptest::prelude::*;

const SECOND: i64 = 1_000_000;

fn life() -> LifeConfig {
    AlertsConfig::default().life
}

fn vehicle(name: &str) -> VehicleId {
    VehicleId::new(name).expect("an id")
}

fn assessment(class: RiskClass, second: i64) -> Assessment {
    Assessment { class, cause: Cause::Temperature, value: 61.0, limit: 60.0, time_us: second * SECOND }
}

/// A book of which one vehicle is told the class, and what happened then.
struct Story {
    book: Book,
    vehicle: VehicleId,
}

impl Story {
    fn new(life: LifeConfig) -> Story {
        Story { book: Book::new(life, 1), vehicle: vehicle("bus-1") }
    }

    fn rule(&mut self, second: i64, class: RiskClass) -> Vec<(Happening, Severity)> {
        let report = Report::of_rule(&self.vehicle, &assessment(class, second));
        happenings(&self.book.report(&report, second * SECOND))
    }

    fn model(&mut self, second: i64, class: RiskClass) -> Vec<(Happening, Severity)> {
        let report = Report::of_model(&self.vehicle, class, 0.9, second * SECOND);
        happenings(&self.book.report(&report, second * SECOND))
    }

    fn tick(&mut self, second: i64) -> Vec<(Happening, Severity)> {
        happenings(&self.book.tick(second * SECOND))
    }

    fn open(&self) -> Vec<ev_alerts::Alert> {
        let filter = Filter { state: Some(State::Open), ..Filter::default() };
        self.book.list(&filter, &Page::default()).expect("a page").alerts
    }
}

fn happenings(events: &[AlertEvent]) -> Vec<(Happening, Severity)> {
    events.iter().map(|event| (event.happening, event.alert.severity)).collect()
}

#[test]
fn every_severity_is_raised_after_its_time() {
    let check = |class: RiskClass, after: i64, expected: Severity| {
        let mut story = Story::new(life());
        if after > 0 {
            assert_eq!(story.rule(0, class), [], "{class:?}");
            assert_eq!(story.tick(after - 1), [], "{class:?}");
            assert_eq!(story.tick(after), [(Happening::Raised, expected)], "{class:?}");
        } else {
            assert_eq!(story.rule(0, class), [(Happening::Raised, expected)], "{class:?}");
        }
        assert_eq!(story.open()[0].class, Some(class));
        assert_eq!(story.open()[0].action_id, class.action().id);
    };
    assert_eq!(Story::new(life()).rule(0, RiskClass::Normal), []);
    check(RiskClass::Watch, 10, Severity::Low);
    check(RiskClass::Warning, 5, Severity::Medium);
    check(RiskClass::Alarm, 0, Severity::High);
    check(RiskClass::Runaway, 0, Severity::Critical);
}

#[test]
fn what_does_not_last_raises_nothing() {
    let mut story = Story::new(life());
    assert_eq!(story.rule(0, RiskClass::Watch), []);
    assert_eq!(story.rule(9, RiskClass::Normal), []);
    assert_eq!(story.rule(10, RiskClass::Watch), []);
    assert_eq!(story.tick(15), []);
    assert_eq!(story.rule(16, RiskClass::Normal), []);
    assert_eq!(story.tick(1000), []);
    assert_eq!(story.book.counts().tracks, 0);
}

#[test]
fn it_rises_at_once_and_falls_slowly() {
    let mut story = Story::new(life());
    assert_eq!(story.rule(0, RiskClass::Alarm), [(Happening::Raised, Severity::High)]);
    assert_eq!(story.rule(1, RiskClass::Alarm), [], "the same again is no news");
    assert_eq!(story.rule(2, RiskClass::Watch), []);
    // Back up within the minute: nothing happened.
    assert_eq!(story.rule(61, RiskClass::Alarm), []);
    assert_eq!(story.rule(62, RiskClass::Warning), []);
    assert_eq!(story.rule(70, RiskClass::Normal), []);
    assert_eq!(story.tick(121), []);
    assert_eq!(story.tick(122), [(Happening::Fell, Severity::Medium)], "the highest it was in that minute");
    let fallen = story.open().remove(0);
    assert_eq!((fallen.class, &*fallen.action_id), (Some(RiskClass::Warning), RiskClass::Warning.action().id));
    assert_eq!(story.tick(182), [(Happening::Ended, Severity::Medium)]);
    let alert = &story.book.list(&Filter::default(), &Page::default()).expect("a page").alerts[0];
    assert_eq!((alert.state, alert.peak, alert.confirmations), (State::Ended, Severity::High, 3));
    assert_eq!(alert.ended_us, Some(182 * SECOND));
    assert_eq!(alert.revision, 3);
}

#[test]
fn the_more_severe_of_rule_and_model_counts() {
    let mut story = Story::new(life());
    assert_eq!(story.model(0, RiskClass::Alarm), [(Happening::Raised, Severity::High)]);
    assert_eq!(story.open()[0].origin, Origin::Model);
    assert_eq!(story.rule(0, RiskClass::Normal), []);
    assert_eq!(story.rule(1, RiskClass::Runaway), [(Happening::Rose, Severity::Critical)]);
    assert_eq!((story.open()[0].origin, story.open()[0].class), (Origin::Rule, Some(RiskClass::Runaway)));
    assert_eq!(story.model(2, RiskClass::Watch), []);
    // A model that says nothing more is forgotten; the rule's last word stands.
    let mut story = Story::new(life());
    story.rule(0, RiskClass::Watch);
    story.model(0, RiskClass::Alarm);
    assert_eq!(story.tick(60), [], "the opinion has expired");
    assert_eq!(story.tick(120), [(Happening::Fell, Severity::Low)]);
    assert_eq!(story.open()[0].origin, Origin::Rule);
    assert_eq!(story.tick(100_000), []);
    assert_eq!(story.open().len(), 1);
}

#[test]
fn critical_ones_stay_until_somebody_knows() {
    let mut story = Story::new(life());
    story.rule(0, RiskClass::Runaway);
    story.rule(1, RiskClass::Normal);
    let expected: Vec<_> = [300, 600, 900].map(|_| (Happening::Escalated, Severity::Critical)).to_vec();
    let found: Vec<_> = (2..5000).flat_map(|second| story.tick(second)).collect();
    assert_eq!(found, expected);
    let id = story.open()[0].id;
    let (alert, events) = story.book.acknowledge(id, "shift lead", "extinguished", 5000 * SECOND).expect("an alert");
    assert_eq!(
        happenings(&events),
        [(Happening::Acknowledged, Severity::Critical), (Happening::Ended, Severity::Critical)]
    );
    assert_eq!(alert.acknowledgement.expect("it").by, "shift lead");
    assert!(story.open().is_empty());
}

#[test]
fn acknowledging_stops_escalation_until_it_gets_worse() {
    let mut story = Story::new(life());
    story.rule(0, RiskClass::Alarm);
    let id = story.open()[0].id;
    story.book.acknowledge(id, "a", "", 10 * SECOND).expect("an alert");
    let (again, events) = story.book.acknowledge(id, "b", "", 11 * SECOND).expect("an alert");
    assert_eq!((again.acknowledgement.expect("it").by.as_str(), events.len()), ("a", 0));
    assert_eq!(story.tick(10_000), []);
    assert_eq!(story.rule(10_001, RiskClass::Runaway), [(Happening::Rose, Severity::Critical)]);
    assert_eq!(story.open()[0].acknowledgement, None);
    assert_eq!(story.tick(10_301), [(Happening::Escalated, Severity::Critical)]);
}

#[test]
fn what_cannot_be_acknowledged_is_refused() {
    let mut story = Story::new(life());
    story.rule(0, RiskClass::Alarm);
    let id = story.open()[0].id;
    let unknown = uuid::Uuid::nil();
    assert_eq!(story.book.acknowledge(unknown, "a", "", 0), Err(AlertError::NotFound { id: unknown }));
    let long = "x".repeat(129);
    let error = story.book.acknowledge(id, &long, "", 0).expect_err("too long");
    assert_eq!(error.to_string(), "`by` has 129 bytes, expected at most 128");
}

#[test]
fn one_that_comes_back_is_the_same_one() {
    let mut story = Story::new(life());
    story.rule(0, RiskClass::Alarm);
    let id = story.open()[0].id;
    story.rule(1, RiskClass::Normal);
    assert_eq!(story.tick(61), [(Happening::Ended, Severity::High)]);
    assert_eq!(story.rule(600, RiskClass::Alarm), [(Happening::Reopened, Severity::High)]);
    assert_eq!((story.open()[0].id, story.open()[0].ended_us), (id, None));
    story.rule(601, RiskClass::Normal);
    story.tick(661);
    assert_eq!(story.tick(1261), []);
    assert_eq!(story.book.counts().tracks, 0, "forgotten after ten minutes");
    assert_eq!(story.rule(1300, RiskClass::Alarm), [(Happening::Raised, Severity::High)]);
    assert_ne!(story.open()[0].id, id);
}

#[test]
fn fleet_rules_have_two_limits_and_a_margin() {
    let fleet = AlertsConfig::default().fleet;
    let check = |quantity: Quantity, value: f32, before: Severity, expected: Severity| {
        assert_eq!(fleet.rule(quantity).severity(value, before).0, expected, "{quantity:?} {value}");
    };
    use Severity::{High, Low, Medium, None};
    for (quantity, values, severities) in [
        (Quantity::StateOfCharge, [20.0, 19.9, 14.9], [None, Low, Medium]),
        (Quantity::CellTemperature, [45.0, 45.1, 60.1], [None, Low, High]),
        (Quantity::FailureProbability, [0.3, 0.31, 0.71], [None, Medium, High]),
        (Quantity::RemainingLife, [50.0, 49.0, 9.0], [None, Low, Medium]),
        (Quantity::StateOfHealth, [85.0, 84.0, 74.0], [None, Low, Medium]),
    ] {
        for (value, severity) in values.into_iter().zip(severities) {
            check(quantity, value, None, severity);
        }
        check(quantity, f32::NAN, High, None);
    }
    check(Quantity::StateOfCharge, 21.0, Low, Low);
    check(Quantity::StateOfCharge, 22.0, Low, None);
    check(Quantity::StateOfCharge, 16.0, Medium, Medium);
    check(Quantity::StateOfCharge, 17.0, Medium, Low);

    let mut story = Story::new(life());
    let name = story.vehicle.clone();
    let report = Report::of_fleet(&name, Quantity::StateOfCharge, &fleet.state_of_charge, 10.0, None, 0);
    assert_eq!(story.book.report(&report, 0), []);
    assert_eq!(story.tick(5), [(Happening::Raised, Medium)]);
    assert_eq!(story.open()[0].topic, Topic::StateOfCharge);
    assert_eq!(story.open()[0].action_text, "Charge the vehicle");
    // The temperature's limit and the thermal rule raise one alert.
    let hot = Report::of_fleet(&name, Quantity::CellTemperature, &fleet.cell_temperature, 61.0, None, 0);
    assert_eq!(happenings(&story.book.report(&hot, 10 * SECOND)), [(Happening::Raised, High)]);
    assert_eq!(story.rule(11, RiskClass::Alarm), []);
    assert_eq!(story.open().len(), 2);
}

#[test]
fn a_full_book_gives_way_by_severity() {
    let mut book = Book::new(LifeConfig { open_max: 2, pending_max: 2, ended_max: 1, ..life() }, 1);
    let mut report = |name: &str, class: RiskClass, second: i64| {
        let vehicle = vehicle(name);
        let events = book.report(&Report::of_rule(&vehicle, &assessment(class, second)), second * SECOND);
        (happenings(&events), book.counts())
    };
    report("a", RiskClass::Alarm, 0);
    report("b", RiskClass::Alarm, 1);
    let (events, counts) = report("c", RiskClass::Alarm, 2);
    assert_eq!((events, counts.refused), (vec![], 1), "as severe as those");
    let (events, counts) = report("d", RiskClass::Runaway, 3);
    assert_eq!(events, [(Happening::Displaced, Severity::High), (Happening::Raised, Severity::Critical)]);
    assert_eq!((counts.open, counts.displaced, counts.raised), (2, 1, 3));
    // Those that only may become one have a bound of their own, which does not hold up what is severe.
    for name in ["e", "f", "g"] {
        report(name, RiskClass::Watch, 4);
    }
    let (_, counts) = report("h", RiskClass::Runaway, 5);
    assert_eq!((counts.open, counts.displaced), (2, 2));
    assert!(counts.tracks <= 5, "{counts:?}");
    let all = book.list(&Filter::default(), &Page::default()).expect("a page").alerts;
    assert_eq!(all.len(), 3, "two open, and of the two that ended the last");
}

#[test]
fn listings_are_filtered_and_come_in_pages() {
    let mut book = Book::new(life(), 1);
    for (second, name) in (0..25).zip(["a", "b", "c", "d", "e"].iter().cycle()) {
        let vehicle = vehicle(&format!("{name}{second}"));
        let class = if second % 5 == 0 { RiskClass::Runaway } else { RiskClass::Alarm };
        book.report(&Report::of_rule(&vehicle, &assessment(class, second)), second * SECOND);
    }
    let mut page = Page { size: 10, token: None };
    let mut found = Vec::new();
    loop {
        let listing = book.list(&Filter::default(), &page).expect("a page");
        assert!(listing.alerts.len() <= 10);
        found.extend(listing.alerts.iter().map(|alert| alert.raised_us / SECOND));
        match listing.next {
            Some(token) => page.token = Some(token),
            None => break,
        }
    }
    assert_eq!(found, (0..25).rev().collect::<Vec<i64>>());
    let count = |filter: Filter| book.list(&filter, &Page::default()).expect("a page").alerts.len();
    assert_eq!(count(Filter { severity_min: Some(Severity::Critical), ..Filter::default() }), 5);
    assert_eq!(count(Filter { vehicle: Some(vehicle("a5")), ..Filter::default() }), 1);
    assert_eq!(count(Filter { topic: Some(Topic::StateOfCharge), ..Filter::default() }), 0);
    assert_eq!(count(Filter { acknowledged: Some(true), ..Filter::default() }), 0);
    let span = Filter { raised_from_us: Some(3 * SECOND), raised_before_us: Some(7 * SECOND), ..Filter::default() };
    assert_eq!(count(span), 4);
    for page in [Page { size: 1001, token: None }, Page { size: 0, token: Some("later".to_owned()) }] {
        assert!(matches!(book.list(&Filter::default(), &page), Err(AlertError::InvalidPage { .. })));
    }
}

#[tokio::test]
async fn a_slow_subscriber_is_told_what_it_missed() {
    let alerts = Alerts::new(LifeConfig { subscriber_events_max: 4, ..life() }, 1);
    let (mut quick, mut slow) = (alerts.subscribe(), alerts.subscribe());
    for second in 0..10 {
        let vehicle = vehicle(&format!("bus-{second}"));
        assert_eq!(alerts.report(&Report::of_rule(&vehicle, &assessment(RiskClass::Alarm, second)), 0), 1);
        assert!(matches!(quick.next().await, Some(Notice::Event(_))));
    }
    assert_eq!(slow.next().await, Some(Notice::Missed(6)));
    match slow.next().await {
        Some(Notice::Event(event)) => assert_eq!(event.alert.vehicle.as_str(), "bus-6"),
        other => panic!("{other:?}"),
    }
    drop(alerts);
    assert_eq!(quick.next().await, None);
}

proptest! {
    /// Whatever is said: one open alert a topic, as severe as something that was said, bounds kept, revisions without holes.
    #[test]
    fn the_book_keeps_its_promises(steps in proptest::collection::vec((0_u8..6, 0_usize..5, any::<bool>(), 0_i64..90), 1..200)) {
        let life = LifeConfig { open_max: 4, pending_max: 3, ended_max: 2, ..life() };
        let mut book = Book::new(life, 3);
        let (mut now, mut revisions) = (0, std::collections::HashMap::new());
        for (name, class, by_model, wait) in steps {
            now += wait * SECOND;
            let (vehicle, class) = (vehicle(&format!("bus-{name}")), RiskClass::ALL[class]);
            let report = if by_model {
                Report::of_model(&vehicle, class, 0.5, now)
            } else {
                Report::of_rule(&vehicle, &assessment(class, now / SECOND))
            };
            let mut events = book.tick(now);
            events.extend(book.report(&report, now));
            for event in events {
                let last = revisions.insert(event.alert.id, event.alert.revision);
                prop_assert_eq!(event.alert.revision, last.unwrap_or(0) + 1);
            }
            let all = book.list(&Filter::default(), &Page::default()).expect("a page").alerts;
            let open: Vec<_> = all.iter().filter(|alert| alert.state == State::Open).collect();
            let vehicles: std::collections::HashSet<_> = open.iter().map(|alert| &alert.vehicle).collect();
            prop_assert_eq!(vehicles.len(), open.len());
            prop_assert!(open.len() <= 4 && all.len() <= 6, "{} of {}", open.len(), all.len());
            prop_assert!(open.iter().all(|alert| alert.severity > Severity::None && alert.peak >= alert.severity));
            prop_assert_eq!(book.counts().open, open.len());
        }
        // In the end everything is forgotten but what nobody acknowledged.
        for name in 0..6 {
            let vehicle = vehicle(&format!("bus-{name}"));
            book.report(&Report::of_rule(&vehicle, &assessment(RiskClass::Normal, now / SECOND)), now);
        }
        for hour in 1..5 {
            book.tick(now + hour * 3600 * SECOND);
        }
        let open = book.counts().open;
        prop_assert_eq!(book.counts().tracks, open);
        let filter = Filter { state: Some(State::Open), ..Filter::default() };
        let left = book.list(&filter, &Page::default()).expect("a page").alerts;
        prop_assert!(left.iter().all(|alert| alert.peak == Severity::Critical), "{:?}", left);
    }
}

/// What another process would read of a book that was kept.
fn kept(book: &Book) -> Vec<ev_alerts::Alert> {
    let alerts = book.list(&Filter::default(), &Page { size: 1000, token: None }).expect("a page").alerts;
    serde_json::from_str(&serde_json::to_string(&alerts).expect("JSON")).expect("alerts")
}

/// The same story in another process.
fn restarted(story: &Story, second: i64) -> Story {
    let mut book = Book::new(life(), 2);
    book.restore(kept(&story.book), second * SECOND);
    Story { book, vehicle: story.vehicle.clone() }
}

#[test]
fn an_open_alert_goes_on_after_a_restart() {
    let mut before = Story::new(life());
    assert_eq!(before.rule(0, RiskClass::Alarm), [(Happening::Raised, Severity::High)]);
    let id = before.open()[0].id;
    before.book.acknowledge(id, "me", "on it", 5 * SECOND).expect("acknowledged");

    let mut after = restarted(&before, 60);
    let open = after.open();
    assert_eq!((open[0].id, open[0].severity, open.len()), (id, Severity::High, 1));
    assert_eq!(open[0].acknowledgement.as_ref().map(|known| known.by.as_str()), Some("me"));
    assert_eq!(after.book.opinion(&after.vehicle, Topic::Thermal, Origin::Rule), Severity::High);
    assert_eq!(after.rule(61, RiskClass::Alarm), [], "it is not raised a second time");
    assert_eq!(after.rule(62, RiskClass::Runaway), [(Happening::Rose, Severity::Critical)]);
    assert_eq!(after.open()[0].id, id);
    assert!(after.open()[0].acknowledgement.is_none(), "who knew of the lesser evil may not know of the greater");
    // It ends as any other does, once somebody knows.
    assert_eq!(after.rule(70, RiskClass::Normal), []);
    after.book.acknowledge(id, "me", "", 75 * SECOND).expect("acknowledged");
    assert_eq!(after.tick(131), [(Happening::Ended, Severity::Critical)]);
}

#[test]
fn an_ended_alert_comes_back_as_the_same_one_after_a_restart() {
    let mut before = Story::new(life());
    before.rule(0, RiskClass::Alarm);
    before.rule(1, RiskClass::Normal);
    assert_eq!(before.tick(62), [(Happening::Ended, Severity::High)]);
    let mut after = restarted(&before, 100);
    assert_eq!(after.open(), []);
    assert_eq!(after.rule(110, RiskClass::Alarm), [(Happening::Reopened, Severity::High)]);
    // And as another one when it is too late.
    let mut late = restarted(&before, 62 + 601);
    assert_eq!(late.rule(62 + 602, RiskClass::Alarm), [(Happening::Raised, Severity::High)]);
}

#[test]
fn escalation_goes_on_and_a_models_opinion_expires_after_a_restart() {
    let mut before = Story::new(life());
    before.rule(0, RiskClass::Alarm);
    assert_eq!(before.tick(300), [(Happening::Escalated, Severity::High)]);
    let mut after = restarted(&before, 400);
    assert_eq!(after.tick(599), []);
    assert_eq!(after.tick(600), [(Happening::Escalated, Severity::High)]);

    let mut before = Story::new(life());
    before.model(0, RiskClass::Alarm);
    let mut after = restarted(&before, 30);
    assert_eq!(after.tick(90), [], "it counts for a minute from the restart");
    assert_eq!(after.tick(151), [(Happening::Ended, Severity::High)]);
}

#[test]
fn a_smaller_book_keeps_the_most_severe() {
    let mut book = Book::new(life(), 1);
    for (number, class) in (0..).zip([RiskClass::Alarm, RiskClass::Runaway, RiskClass::Alarm]) {
        let vehicle = vehicle(&format!("bus-{number}"));
        book.report(&Report::of_rule(&vehicle, &assessment(class, number)), number * SECOND);
    }
    let mut smaller = Book::new(LifeConfig { open_max: 1, ended_max: 1, ..life() }, 2);
    smaller.restore(kept(&book), 10 * SECOND);
    // What is there already stays as it is.
    smaller.restore(kept(&smaller), 20 * SECOND);
    let alerts = smaller.list(&Filter::default(), &Page::default()).expect("a page").alerts;
    let found: Vec<_> = alerts.iter().map(|alert| (alert.vehicle.as_str(), alert.state)).collect();
    assert_eq!(found, [("bus-2", State::Ended), ("bus-1", State::Open)]);
    assert_eq!(smaller.counts().open, 1);
}

proptest! {
    /// Whatever happened before: a restart is not heard of, loses no alert, and leaves a book that can go on.
    #[test]
    fn a_restart_changes_no_alert(steps in prop::collection::vec((0u8..4, 0usize..5, 1i64..200), 1..60)) {
        let mut before = Book::new(life(), 1);
        let mut second = 0;
        for (number, class, passes) in &steps {
            second += passes;
            let vehicle = vehicle(&format!("bus-{number}"));
            before.tick(second * SECOND);
            before.report(&Report::of_rule(&vehicle, &assessment(RiskClass::ALL[*class], second)), second * SECOND);
        }
        let mut after = Book::new(life(), 2);
        after.restore(kept(&before), second * SECOND);
        let all = |book: &Book| book.list(&Filter::default(), &Page::default()).expect("a page").alerts;
        prop_assert_eq!(all(&before), all(&after));
        prop_assert_eq!(before.counts().open, after.counts().open);
        // All is well, everybody knows, and time passes: everything ends, and is forgotten as it would have been.
        for alert in all(&after) {
            after.acknowledge(alert.id, "me", "", second * SECOND).expect("acknowledged");
            let report = assessment(RiskClass::Normal, second);
            after.report(&Report::of_rule(&alert.vehicle, &report), second * SECOND);
        }
        for _ in 0..20 {
            second += 60;
            after.tick(second * SECOND);
        }
        prop_assert_eq!((after.counts().open, after.counts().tracks), (0, 0));
    }
}
