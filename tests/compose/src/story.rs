//! One installation from its first `up` over kills and replacements to its second `up`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_nats::jetstream::Context;
use botstats_common::io::nats::jetstream;
use botstats_common::io::{clock, stop};
use botstats_common::names::{DIRECTORY_BUCKET, EVENTS_STREAM};
use botstats_common::secret::SecretHash;
use futures::future::join;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::WINDOW;
use super::clients::{
    CUT, RECOVERY, all_applied, answered, ask, connect, describes_itself, equals, listens,
};
use super::readme;
use super::stack::{Stack, id, pid, service};
use botstats_tests::generate::{self, Dice, Generated, Plan};
use botstats_tests::harness::{
    Login, Outgoing, PATIENCE, event, outgoing, publish, publish_stubbornly, signal, statuses,
    stored, until,
};
use botstats_tests::model::Model;

/// What makes the events and questions of a run.
const SEED: u64 = 20_261_122;
const DAY_MS: i64 = 86_400_000;
/// The largest an image may be, in bytes. The programs of the tests are optimised less than those
/// of a release: they are about a third larger.
const MAX_IMAGE_BYTES: u64 = 30 * 1024 * 1024;
/// Events published one by one while something is killed.
const EVENTS_DURING_A_FAULT: usize = 300;
/// Questions for each account at each comparison.
const QUESTIONS: usize = 3;
/// How often two replicas are asked at most until both answer within the window.
const RACES: usize = 20;
/// Accounts that each client asks for in turn.
const CROWD: usize = 100;
/// A question whose answer is one small row.
const PATH: &str = "/analytics/statistics/account/*/13/year/30";

/// The installation, and what those outside know of it.
pub(super) struct Story<'a> {
    stack: &'a Stack,
    acme: Login,
    operator: async_nats::Client,
    publisher: Context,
    generated: Generated,
    logins: BTreeMap<String, Login>,
    dice: Dice,
    /// Events that were made for account acme.
    made: usize,
}

/// Checks the images; gives their sizes in bytes.
pub(super) async fn images(stack: &Stack) -> BTreeMap<String, u64> {
    let mut sizes = BTreeMap::new();
    for program in ["ingest", "query", "cli"] {
        let name = format!("{}-{program}", stack.project());
        let said = stack.docker(&["image", "inspect", &name]).await;
        let image: Value = serde_json::from_str(&said).expect("what docker inspect says");
        let bytes = image[0]["Size"].as_u64().expect("a size");
        assert!(bytes < MAX_IMAGE_BYTES, "{name} has {bytes} bytes");
        assert_eq!(image[0]["Config"]["User"], "65532:65532", "{name}");
        sizes.insert(program.to_owned(), bytes);
    }
    sizes
}

impl<'a> Story<'a> {
    /// Runs README's lines; gives how long that took, and the installation.
    pub(super) async fn begin(stack: &'a Stack) -> (Self, Duration) {
        let lines = readme::commands(stack.root_folder());
        let lines = lines.replace("8080", &stack.http_port.to_string());
        let script = format!("set -euo pipefail\n{lines}\necho\necho \"$BOTSTATS_TOKEN\"\n");
        let started = clock::monotonic();
        let output = stack.output("bash", &["-s"], &script).await;
        let took = started.elapsed();
        let (said, error) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert!(output.status.success(), "README's lines:\n{said}\n{error}");
        let mut lines = said.lines().rev().filter(|line| !line.is_empty());
        let token = lines.next().expect("a token").to_owned();
        let rows: Value = serde_json::from_str(lines.next().unwrap_or_default())
            .unwrap_or_else(|e| panic!("{e}:\n{said}\n{error}"));
        let link = lines.next().expect("a link");
        let first = &rows[0];
        assert_eq!(first["BotName"], "Pizza", "{said}");
        assert_eq!(first["Count"], 1, "{said}");
        stack.healthy("query", 2, PATIENCE).await;
        let page = format!("http://127.0.0.1:{}/dashboard#", stack.http_port);
        let view = link.strip_prefix(&page).unwrap_or_else(|| panic!("{link}: not {page}"));
        for address in stack.addresses("query").await {
            until("the page's account", RECOVERY, async || {
                let answer = ask(address, view, "/dashboard/account").await.ok()?;
                (answer.status == 200 && answer.json()["Account"] == "acme").then_some(())
            })
            .await;
        }

        let operator = stack.password("nats", "operator").await;
        let publisher = stack.password("nats", "publisher").await;
        let publisher = connect(stack.nats_port, "publisher", publisher).await;
        let story = Self {
            stack,
            acme: Login {
                account: "acme".to_owned(),
                token,
                keys: BTreeMap::new(),
                bot_tokens: BTreeMap::new(),
            },
            operator: connect(stack.nats_port, "operator", operator).await,
            publisher: jetstream(&publisher, None),
            generated: Plan {
                seed: SEED,
                accounts: 2,
                events: 3_000,
                start_ms: clock::now_ms() - 26 * DAY_MS,
                days: 25,
                conflicts: true,
                bad: true,
            }
            .generate(),
            logins: BTreeMap::new(),
            dice: Dice::new(SEED),
            made: 0,
        };
        (story, took)
    }

    /// What a publisher may not.
    pub(super) async fn rights(&self) -> String {
        let server = format!("nats://127.0.0.1:{}", self.stack.nats_port);
        let nobody = async_nats::ConnectOptions::new().connect(&server);
        assert!(nobody.await.is_err(), "somebody without a name is let in");
        let wrong = async_nats::ConnectOptions::new()
            .user_and_password("operator".to_owned(), "operator".to_owned())
            .connect(&server);
        assert!(wrong.await.is_err(), "a wrong password is let in");
        assert!(self.publisher.get_stream(EVENTS_STREAM).await.is_err(), "a publisher reads");
        let entry = format!("$KV.{DIRECTORY_BUCKET}.account.acme");
        let taken = self.publisher.publish(entry, "{}".into()).await.expect("it is sent").await;
        assert!(taken.is_err(), "a publisher writes the directory");
        let bucket = jetstream(&self.operator, None).get_key_value(DIRECTORY_BUCKET).await;
        let entry = bucket.expect("the directory").get("account.acme").await.expect("the entry");
        assert_ne!(entry.expect("the entry").as_ref(), b"{}");
        "no user, wrong password, and what a publisher may not: refused".to_owned()
    }

    /// Makes accounts as the admin does, publishes what is as nasty as the rules allow, and
    /// compares.
    pub(super) async fn equals_the_model(&mut self) -> String {
        for (account, directory) in &self.generated.directories {
            let zone = directory.timezone.as_str();
            let add = ["account", "add", account.as_str(), "--timezone", zone];
            let said = self.stack.botstats("botstats", &add).await;
            let token = said["token"].as_str().expect("a token").to_owned();
            let mut keys = BTreeMap::new();
            for bot in &self.generated.bots[account] {
                let mut add =
                    vec!["bot".to_owned(), "add".to_owned(), account.clone(), bot.clone()];
                if let Some(name) = directory.bots.get(bot) {
                    add.extend(["--name".to_owned(), name.clone()]);
                }
                let of_bot = directory.channels.iter().filter(|((b, _), _)| b == bot);
                add.extend(of_bot.flat_map(|((_, channel), name)| {
                    ["--channel".to_owned(), format!("{channel}={name}")]
                }));
                let add: Vec<&str> = add.iter().map(String::as_str).collect();
                let said = self.stack.botstats("botstats", &add).await;
                keys.insert(bot.clone(), said["key"].as_str().expect("a key").to_owned());
            }
            let login =
                Login { account: account.clone(), token, keys, bot_tokens: BTreeMap::new() };
            self.logins.insert(account.clone(), login);
        }
        publish(&self.publisher, self.generated.messages.iter().map(outgoing)).await;
        self.compare().await
    }

    /// Compares answers of both replicas with the model, for what the stream holds now.
    async fn compare(&mut self) -> String {
        let model = all_applied(&self.operator, 1).await;
        let addresses = self.stack.addresses("query").await;
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        let mut compared = 0;
        for _ in 0..QUESTIONS {
            for (account, directory) in &self.generated.directories {
                let question = generate::question(&mut self.dice, &self.generated, account, 0);
                let address = addresses[compared % 2];
                equals(address, &model, &self.logins[account], &question, directory).await;
                compared += 1;
            }
        }
        format!("{} messages, {compared} answers compared", model.verdicts.len())
    }

    /// In both directions; and who waits as long as told gets an answer from the other replica.
    pub(super) async fn shares_the_throttle(&mut self) -> String {
        let addresses = self.stack.addresses("query").await;
        let mut seen = Vec::new();
        for [first, second] in [[addresses[0], addresses[1]], [addresses[1], addresses[0]]] {
            let mut races = 0;
            let refused = loop {
                races += 1;
                assert!(races <= RACES, "two answers never came within {WINDOW:?}");
                let (asked_ms, _) = answered(first, &self.acme.token, PATH).await;
                let answer = ask(second, &self.acme.token, PATH).await.expect("an answer");
                let took_ms = clock::now_ms() - asked_ms;
                if u128::try_from(took_ms).is_ok_and(|ms| ms < WINDOW.as_millis()) {
                    break answer;
                }
            };
            assert_eq!(refused.status, 429, "{refused:?}");
            let wait = refused.retry_after().expect("Retry-After");
            tokio::time::sleep(Duration::from_secs(wait)).await;
            let answer = ask(second, &self.acme.token, PATH).await.expect("an answer");
            assert_eq!(answer.status, 200, "after {wait} s: {answer:?}");
            seen.push(format!("200 from one, 429 from the other with {wait} s to wait, then 200"));
        }
        seen.join("; ")
    }

    /// Kills ingest's process; docker starts it again.
    pub(super) async fn ingest_killed(&mut self) -> String {
        self.killed("ingest").await
    }

    /// Kills nats-server's process; docker starts it again.
    pub(super) async fn nats_killed(&mut self) -> String {
        self.killed("nats").await
    }

    async fn killed(&mut self, name: &str) -> String {
        let before = self.stack.container(name).await;
        let started = clock::monotonic();
        let kill = async {
            signal(pid(&before), "KILL");
            let back = until(&format!("{name} runs again"), RECOVERY, async || {
                let now = self.stack.containers(name).await.into_iter().next()?;
                (pid(&now) != pid(&before) && pid(&now) != 0).then_some(now)
            })
            .await;
            assert_eq!(id(&back), id(&before), "the container is the same");
        };
        let events = self.events(EVENTS_DURING_A_FAULT);
        let publishing = async {
            let mut sequences = Vec::new();
            for event in &events {
                sequences.push(publish_stubbornly(&self.publisher, event, RECOVERY).await);
            }
            sequences
        };
        let (sequences, ()) = join(publishing, kill).await;
        let acknowledged = stored(&jetstream(&self.operator, None)).await;
        for (event, sequence) in events.iter().zip(sequences) {
            let found = acknowledged.iter().find(|message| message.sequence == sequence);
            let same = found.is_some_and(|m| m.subject == event.0 && m.payload == event.2);
            assert!(same, "what was acknowledged as {sequence} is not there");
        }
        let (_, answer) =
            answered(self.stack.addresses("query").await[0], &self.acme.token, PATH).await;
        assert_eq!(answer.status, 200);
        let took = started.elapsed();
        self.made += events.len();
        let compared = self.compare().await;
        format!(
            "{} events acknowledged meanwhile, all counted; {:.1} s; {compared}",
            events.len(),
            took.as_secs_f64()
        )
    }

    /// That many new events of account acme.
    fn events(&self, count: usize) -> Vec<Outgoing> {
        (self.made..self.made + count)
            .map(|number| {
                let id = format!("made-{number}");
                let place = ["acme", "bot1", "web"];
                event(place, "message.received", clock::now_ms(), &id, &json!({}))
            })
            .collect()
    }

    /// Stops and removes one replica and brings up another in its place, while clients ask: one
    /// that knows only the other replica, and one that knows both and goes to the next if it is not
    /// let in.
    pub(super) async fn query_replaced(&mut self) -> String {
        let before = self.stack.containers("query").await;
        let addresses = self.stack.addresses("query").await;
        let (gone, stays) = (addresses[0], addresses[1]);
        let stop = CancellationToken::new();
        let mut clients = Vec::new();
        for places in [vec![stays], vec![gone, stays]] {
            let tokens = self.crowd(clients.len(), &addresses).await;
            clients.push(stop::spawn(client(places, tokens, stop.clone())));
        }
        self.stack.docker(&["stop", id(&before[0])]).await;
        let ended = self.stack.all_containers().await.into_iter().find(|c| id(c) == id(&before[0]));
        let code = ended.expect("the stopped container")["State"]["ExitCode"].clone();
        self.stack.docker(&["rm", id(&before[0])]).await;
        self.stack.compose(&["up", "-d", "--no-deps", "--no-recreate", "query"]).await;
        self.stack.healthy("query", 2, RECOVERY).await;
        let after = self.stack.containers("query").await;
        assert!(after.iter().all(|one| id(one) != id(&before[0])), "it was not replaced");
        assert!(after.iter().any(|one| id(one) == id(&before[1])), "the other was replaced too");
        for address in self.stack.addresses("query").await {
            listens(address).await;
            assert!(describes_itself(address).await, "{address}");
        }
        stop.cancel();
        let mut seen = Vec::new();
        for client in clients {
            let (given, refused) = client.await.expect("reads that do not fail");
            assert!(given > 0, "nobody got an answer with statistics");
            seen.push(format!("{given} answered 200, {refused} 429"));
        }
        assert_eq!(code, 0, "the stopped query's exit code");
        format!("no other answer: {}", seen.join("; "))
    }

    /// Makes accounts that only ask: enough that most of the time one has a call left. Returns
    /// their tokens once the queries know them.
    async fn crowd(&self, number: usize, addresses: &[SocketAddr]) -> Vec<String> {
        let bucket = jetstream(&self.operator, None).get_key_value(DIRECTORY_BUCKET).await;
        let bucket = bucket.expect("the directory");
        let mut tokens = Vec::new();
        for member in 0..CROWD {
            let token = format!("token-of-{number}-{member}");
            let sha256: String = SecretHash::of(&token).into();
            let created = "2026-01-01T00:00:00Z";
            let entry = json!({"tokens": [{"id": "t1", "sha256": sha256, "created": created}]});
            let key = format!("account.crowd-{number}-{member}");
            bucket.put(key, entry.to_string().into()).await.expect("it is stored");
            tokens.push(token);
        }
        let last = tokens.last().expect("a token");
        for address in addresses {
            // Wrong on purpose: a known token gets a 400, which uses no call.
            let wrong = "/analytics/statistics/account/*/none/day/1";
            until("a known token", PATIENCE, async || {
                (ask(*address, last, wrong).await.ok()?.status == 400).then_some(())
            })
            .await;
        }
        tokens
    }

    /// Stops everything; each program must end by itself, not by docker's patience.
    pub(super) async fn stopped(&mut self) -> String {
        let started = clock::monotonic();
        self.stack.compose(&["stop"]).await;
        let took = started.elapsed();
        let mut ended = 0;
        for container in self.stack.all_containers().await {
            let (name, state) = (service(&container), &container["State"]);
            assert_eq!(state["Running"], false, "{name}");
            assert_eq!(state["OOMKilled"], false, "{name}");
            assert_eq!(state["ExitCode"], 0, "{name}: {state}");
            ended += 1;
        }
        format!("{ended} containers with exit code 0 in {:.1} s", took.as_secs_f64())
    }

    /// Removes the containers but not the volumes, and brings all up again.
    pub(super) async fn down_and_up(&mut self) -> String {
        self.stack.compose(&["start"]).await;
        self.stack.healthy("ingest", 1, RECOVERY).await;
        let before = self.instances().await;
        self.stack.down(false).await;
        assert!(self.stack.all_containers().await.is_empty(), "containers are left");
        self.stack.compose(&["up", "-d"]).await;
        self.stack.healthy("query", 2, RECOVERY).await;
        let model = all_applied(&self.operator, 1).await;
        assert_eq!(self.instances().await, before, "ingest has another folder");
        let counted = self.check_acme(&model, self.stack.addresses("query").await[1]).await;
        let compared = self.compare().await;
        format!("the same tokens, passwords and store; {counted} of acme; {compared}")
    }

    /// The ids that ingests keep in their folders.
    async fn instances(&self) -> Vec<String> {
        until("an ingest that says who it is", RECOVERY, async || {
            let found = statuses(&self.operator).await;
            let ids: Vec<String> = found
                .into_iter()
                .filter(|one| one.ingest.is_some())
                .map(|one| one.instance)
                .collect();
            (!ids.is_empty()).then_some(ids)
        })
        .await
    }

    async fn check_acme(&self, model: &Model, address: SocketAddr) -> String {
        let (_, answer) = answered(address, &self.acme.token, PATH).await;
        let counted = super::clients::counted(&answer.json());
        // README's event and those of the faults.
        let made = u64::try_from(self.made + 1).expect("a count");
        assert_eq!(counted, made, "{}", model.verdicts.len());
        format!("{counted} events")
    }
}

/// Asks all the time, for one account after the other, as behind a proxy: a place that lets nobody
/// in or is not ready is passed over, but the answer of the last one, and any that was begun, must
/// be whole and 200 or
/// 429. Gives how many there were of each.
async fn client(
    places: Vec<SocketAddr>,
    tokens: Vec<String>,
    stop: CancellationToken,
) -> (usize, usize) {
    let (mut given, mut refused) = (0, 0);
    for token in tokens.iter().cycle() {
        if stop.is_cancelled() {
            break;
        }
        let mut answer = Err(std::io::ErrorKind::NotConnected.into());
        for place in &places {
            answer = ask(*place, token, PATH).await;
            let cut = answer.as_ref().is_err_and(|e| e.kind() == CUT);
            if cut || answer.as_ref().is_ok_and(|answer| answer.status != 503) {
                break;
            }
        }
        let answer = answer.unwrap_or_else(|e| panic!("nobody of {places:?} answers: {e}"));
        match answer.status {
            200 => given += 1,
            429 => refused += 1,
            _ => panic!("{answer:?}"),
        }
    }
    (given, refused)
}
