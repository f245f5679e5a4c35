//! Windows and groups of every time zone, against the model that walks quarter by quarter.

use botstats_tests::generate::{Dice, moment};
use botstats_tests::in_process::answer_of_one_tag;
use botstats_tests::model::{Directory, GroupMode, Message, Model, Question, text_of};
use serde_json::json;

/// Moments of asking for each zone and group mode.
const MOMENTS: i64 = 3;
/// From when every zone is a multiple of 15 minutes from UTC: 1995.
const FROM_MS: i64 = 788_918_400_000;
/// To when zones are known: the end of 2037.
const TO_MS: i64 = 2_145_916_800_000;

/// The message whose only effect is one tag at that moment.
fn tag(time_ms: i64) -> Message {
    let time = botstats_common::io::clock::rfc3339_ms(time_ms);
    let data = json!({"conversationid": "c1", "userid": "u1", "tag": "t"});
    let envelope = json!({"specversion": "1.0", "id": "1", "source": "/s",
        "type": "io.botstats.tag.set.v1", "time": time, "data": data});
    Message {
        sequence: 1,
        stored_ns: time_ms * 1_000_000,
        subject: "botstats.events.a.b.c".to_owned(),
        headers: Vec::new(),
        payload: envelope.to_string().into_bytes(),
    }
}

#[test]
fn every_zone() -> anyhow::Result<()> {
    let mut dice = Dice::new(1995);
    let mut zones = 0;
    for zone in jiff::tz::db().available() {
        zones += 1;
        let directory = Directory::nameless(zone.as_str());
        for mode in GroupMode::ALL {
            // A year is a long walk.
            let moments = if mode == GroupMode::Year { 1 } else { MOMENTS };
            for _ in 0..moments {
                let now_ms = moment(&mut dice, FROM_MS, TO_MS);
                let question = Question {
                    account: "a".to_owned(),
                    bots: None,
                    types: vec![18],
                    mode,
                    days: *dice.pick(&[1, 2, 5, 30]),
                    fill: true,
                    now_ms,
                };
                let model = Model::of(&[tag(now_ms)]);
                let wanted = text_of(&model.rows(&question, &directory));
                let got = answer_of_one_tag(&question, &directory)?;
                assert!(wanted.contains("\"Count\":1"), "{question:?} in {}", directory.timezone);
                let wanted = wanted.replace("},{", "}\n{");
                assert_eq!(got.replace("},{", "}\n{"), wanted, "{question:?} in {zone}");
            }
        }
    }
    assert!(zones > 400, "{zones} zones");
    Ok(())
}
