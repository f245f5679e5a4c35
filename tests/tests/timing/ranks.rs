//! The times of answers do not tell what is foreign from what is absent.

use std::time::Duration;

use botstats_common::io::clock;
use botstats_tests::generate::Dice;
use botstats_tests::harness::{Connection, Stage, lookalikes, turn};

/// Requests of each kind whose times are compared.
const PAIRS: usize = 1_000;
/// A difference is significant if its probability by chance is below one in a million.
const CHANCE: f64 = 1e-6;

/// The probability that two samples of one distribution differ at least this much in their ranks
/// (Mann-Whitney test, two-sided, by the normal approximation).
fn chance_of_ranks(a: &[Duration], b: &[Duration]) -> f64 {
    let of = |times: &[Duration], first| times.iter().map(move |t| (*t, first)).collect::<Vec<_>>();
    let mut all = [of(a, true), of(b, false)].concat();
    all.sort();
    let (n, m) =
        (f64::from(u32::try_from(a.len()).unwrap()), f64::from(u32::try_from(b.len()).unwrap()));
    let (mut ranks, mut ties, mut rank) = (0.0, 0.0, 0.0);
    for equal in all.chunk_by(|x, y| x.0 == y.0) {
        let size = f64::from(u32::try_from(equal.len()).unwrap());
        let firsts =
            f64::from(u32::try_from(equal.iter().filter(|(_, first)| *first).count()).unwrap());
        ranks += firsts * (rank + f64::midpoint(size, 1.0));
        rank += size;
        ties += size.powi(3) - size;
    }
    let u = ranks - n * (n + 1.0) / 2.0;
    let all = n + m;
    let variance = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
    let z = (u - n * m / 2.0) / variance.sqrt();
    // The tail of the normal distribution (Abramowitz and Stegun 7.1.26, error below 1.5e-7); far
    // out, where that is not exact enough, its bound.
    let x = z.abs() / std::f64::consts::SQRT_2;
    if x > 3.0 {
        return (-x * x).exp() / (x * std::f64::consts::PI.sqrt());
    }
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let poly = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    poly.iter().rev().fold(0.0, |sum, factor| (sum + factor) * t) * (-x * x).exp()
}

#[test]
fn the_rank_test_tells_apart_what_differs() {
    let mut dice = Dice::new(1);
    let mut sample = |from: i64| -> Vec<Duration> {
        let time =
            |dice: &mut Dice| u64::try_from(from + dice.below(1_000) + dice.below(1_000)).unwrap();
        (0..PAIRS).map(|_| Duration::from_micros(time(&mut dice))).collect()
    };
    let (a, b, slower) = (sample(0), sample(0), sample(100));
    assert!(chance_of_ranks(&a, &b) > 1e-4);
    assert!(chance_of_ranks(&a, &slower) < CHANCE);
    assert!((chance_of_ranks(&a, &a) - 1.0).abs() < 1e-6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_foreign_takes_as_long_as_what_is_absent() {
    let _turn = turn().await;
    let stage = Stage::start("1h", 50).await;
    let mut dice = Dice::new(u64::try_from(clock::now_ms()).unwrap());
    for (what, pair) in lookalikes(&stage).await {
        let mut connection = Connection::open(stage.query.http).await.unwrap();
        // A difference that is one shows every time; a busy machine's shows once.
        let mut attempt = async || {
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..PAIRS {
                let first = dice.index(2);
                for which in [first, 1 - first] {
                    let began = clock::monotonic();
                    connection.send(&pair[which]).await.unwrap();
                    connection.answer(false).await.unwrap().unwrap();
                    times[which].push(began.elapsed());
                }
            }
            let chance = chance_of_ranks(&times[0], &times[1]);
            let [a, b] = times.map(|mut times| {
                times.sort();
                times[PAIRS / 2]
            });
            eprintln!("{what}: medians {a:?} {b:?}, p = {chance:.3e}");
            chance
        };
        let mut alike = false;
        for _ in 0..3 {
            alike = alike || attempt().await >= CHANCE;
        }
        assert!(alike, "{what}: the times differ");
    }
}
