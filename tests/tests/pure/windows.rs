//! The windows of questions with all parameters, against the model that walks quarter by quarter.
//!
//! `BOTSTATS_TEST_SEED` sets the seed.

use anyhow::Context as _;
use botstats_query::{BadParameter, Question, Window as Found, Windows};
use botstats_tests::generate::{Dice, moment};
use botstats_tests::model::{Dates, Grain, Previous, Window, windows};
use botstats_tests::setting;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// How many questions are compared.
const CASES: i64 = 4_000;
const QUARTER_MS: i64 = 900_000;
/// From when every offset is a whole number of minutes: the model shows no seconds. 1973.
const FROM_MS: i64 = 94_694_400_000;
/// To when zones are known: the end of 2037.
const TO_MS: i64 = 2_145_916_800_000;

/// Zones with half hours, odd changes, skipped dates, midnights that come twice or never.
const ODD_ZONES: [&str; 16] = [
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/Nuuk",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Casey",
    "Antarctica/Troll",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Rome",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
    "UTC",
];

#[derive(Debug)]
struct Case {
    zone: String,
    now_ms: i64,
    grain: Grain,
    dates: Dates,
    previous: Option<Previous>,
}

fn days(number: i64) -> Span {
    Span::new().days(number)
}

/// A moment of asking: any, or soon after a change of the zone's clocks, where a day, a week or a
/// month ago counts as after the change too.
fn now(dice: &mut Dice, zone: &TimeZone) -> anyhow::Result<i64> {
    let any_ms = moment(dice, FROM_MS, TO_MS);
    if dice.one_in(3) {
        return Ok(any_ms);
    }
    let change = zone.following(Timestamp::from_millisecond(any_ms)?).next();
    let Some(change_ms) = change.map(|change| change.timestamp().as_millisecond()) else {
        return Ok(any_ms);
    };
    let later = *dice.pick(&[0, 1, 7, 28, 30, 31, 365, 366]) * 86_400_000;
    let nearby = (dice.below(200) - 100) * QUARTER_MS + *dice.pick(&[-1, 0, 1, 400_000]);
    Ok((change_ms + later + nearby).clamp(FROM_MS, TO_MS))
}

/// Dates near today: whole months, or any number that the groups allow.
fn from_to(dice: &mut Dice, grain: Grain, today: Date) -> Dates {
    let is_fine = [Grain::Quarter, Grain::Hour].contains(&grain);
    let most = if is_fine { 62 } else { 400 };
    if dice.one_in(3) {
        let first = (today - Span::new().months(dice.below(3))).first_of_month();
        let months = 1 + dice.below(if is_fine { 2 } else { 13 });
        return Dates::FromTo(first, (first + Span::new().months(months)) - days(1));
    }
    let long = if dice.one_in(8) { most } else { 12 };
    let number = 1 + dice.below(long);
    // Up to a week of dates in the future, seldom all of them.
    let first = today - days((number - 7 + dice.below(20)).max(-1));
    Dates::FromTo(first, first + days(number - 1))
}

fn case(dice: &mut Dice, zones: &[String]) -> anyhow::Result<Case> {
    let zone =
        if dice.one_in(2) { dice.pick(&ODD_ZONES).to_string() } else { dice.pick(zones).clone() };
    let tz = jiff::tz::db().get(&zone)?;
    let now_ms = now(dice, &tz)?;
    let mut grain = *dice.pick(&Grain::ALL);
    if grain == Grain::Year && !dice.one_in(3) {
        // A year is a long walk.
        grain = Grain::Day;
    }
    let today = tz.to_datetime(Timestamp::from_millisecond(now_ms)?).date();
    let dates = if dice.one_in(3) {
        Dates::Last(u32::try_from(1 + dice.below(30))?)
    } else {
        from_to(dice, grain, today)
    };
    let can_have_previous = grain != Grain::WeekHour && !dice.one_in(4);
    let previous = can_have_previous.then(|| dice.pick(&Previous::ALL).0);
    Ok(Case { zone, now_ms, grain, dates, previous })
}

fn question(case: &Case) -> anyhow::Result<Question> {
    let (days, mut query) = match case.dates {
        Dates::Last(number) => (number.to_string(), Vec::new()),
        Dates::FromTo(from, to) => ("*".to_owned(), vec![format!("from={from}&to={to}")]),
    };
    if let Some(previous) = case.previous {
        let (_, name) =
            Previous::ALL.iter().find(|(of, _)| *of == previous).context("an earlier window")?;
        query.push(format!("previous={name}"));
    }
    Ok(Question::parse(["*", "0", case.grain.name(), &days], Some(&query.join("&")))?)
}

/// Compares label, start, completeness and spans of every group, and the window's own span.
fn compare(found: &Found, wanted: &Window) -> anyhow::Result<()> {
    let mut at_ms = found.start.start_ms();
    let mut spans: Vec<Vec<(i64, i64)>> = vec![Vec::new(); found.groups.len()];
    for run in &found.runs {
        for number in 0..run.parts {
            let end_ms = at_ms + i64::from(run.quarters) * QUARTER_MS;
            if let Some(first) = run.group {
                let group = usize::try_from(first + number)? % spans.len();
                spans[group].push((at_ms, end_ms));
            }
            at_ms = end_ms;
        }
    }
    let is_empty = wanted.span.0 >= wanted.span.1;
    anyhow::ensure!(is_empty == found.runs.is_empty(), "the window is {:?}", wanted.span);
    if !is_empty {
        let span = (found.start.start_ms(), at_ms);
        anyhow::ensure!(span == wanted.span, "{span:?} instead of {:?}", wanted.span);
    }
    anyhow::ensure!(found.groups.len() == wanted.groups.len(), "{} groups", found.groups.len());
    for ((found, spans), wanted) in found.groups.iter().zip(&spans).zip(&wanted.groups) {
        let start = found.start_utc.as_ref().map(|text| text.parse::<Timestamp>()).transpose()?;
        let same = found.label == wanted.label
            && start.map(Timestamp::as_millisecond) == wanted.start_ms
            && found.complete == wanted.complete
            && usize::try_from(found.parts)? == spans.len()
            && *spans == wanted.spans;
        anyhow::ensure!(same, "{found:?} at {spans:?} instead of {wanted:?}");
    }
    Ok(())
}

fn check(case: &Case) -> anyhow::Result<()> {
    let zone = jiff::tz::db().get(&case.zone)?;
    let found = Windows::new(case.now_ms, &zone, &question(case)?);
    // The only date of a total of one day.
    let (today, _) = windows(&zone, Grain::Total, Dates::Last(1), None, case.now_ms);
    let today: Date = today.groups.first().context("today")?.label[..10].parse()?;
    let last = match case.dates {
        Dates::FromTo(from, _) if from > today => {
            anyhow::ensure!(
                found == Err(BadParameter::FromAfterToday { from, today }),
                "{found:?}"
            );
            return Ok(());
        }
        Dates::FromTo(_, to) => to.min(today),
        Dates::Last(_) => today,
    };
    let found = found?;
    anyhow::ensure!(found.last_date == last, "last date {}", found.last_date);
    let (current, earlier) = windows(&zone, case.grain, case.dates, case.previous, case.now_ms);
    compare(&found.current, &current).context("the window")?;
    anyhow::ensure!(found.earlier.is_some() == earlier.is_some(), "an earlier window");
    for (found, wanted) in found.earlier.iter().zip(&earlier) {
        compare(found, wanted).context("the earlier window")?;
    }
    Ok(())
}

#[test]
fn random_questions() -> anyhow::Result<()> {
    let seed = u64::try_from(setting("BOTSTATS_TEST_SEED", 20_261_127))?;
    println!("BOTSTATS_TEST_SEED={seed}");
    let mut dice = Dice::new(seed);
    let zones: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let (mut earlier, mut refused) = (0, 0);
    for number in 0..CASES {
        let case = case(&mut dice, &zones)?;
        check(&case).with_context(|| format!("seed {seed}, case {number}: {case:?}"))?;
        earlier += i64::from(case.previous.is_some());
        let today = Timestamp::from_millisecond(case.now_ms)?.to_zoned(TimeZone::UTC).date();
        refused += i64::from(matches!(case.dates, Dates::FromTo(from, _) if from > today));
    }
    assert!(earlier > CASES / 3 && refused > CASES / 200, "{earlier} {refused}");
    Ok(())
}
