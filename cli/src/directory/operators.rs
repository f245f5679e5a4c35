//! `botstats operator`.

use botstats_common::directory::{check_operator_id, check_operator_name};
use botstats_common::ids::Account;
use botstats_common::io::nats::NatsSettings;
use clap::Subcommand;
use serde_json::json;

use super::{must_live, open, rules};
use crate::output::{Align, Answer, printable, table};

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// Name an operator, or change the name: rows and the page show it
    #[command(after_long_help = "EXAMPLES\n  \
        botstats operator set acme o17 Ann")]
    Set {
        /// The account's id
        account: Account,
        /// The operator's id as events have it (operatorid)
        #[arg(value_parser = id)]
        id: String,
        /// Name to show
        #[arg(value_parser = name)]
        name: String,
    },
    /// List the operators that have a name
    List {
        /// The account's id
        account: Account,
    },
    /// Take an operator's name away: the id shows again
    Remove {
        /// The account's id
        account: Account,
        /// The operator's id
        id: String,
    },
}

fn id(text: &str) -> Result<String, String> {
    check_operator_id(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

fn name(text: &str) -> Result<String, String> {
    check_operator_name(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

pub(crate) async fn operator(
    command: OperatorCommand,
    nats: &NatsSettings,
) -> anyhow::Result<Answer> {
    let directory = open(nats).await?;
    match command {
        OperatorCommand::Set { account, id, name } => {
            must_live(&directory, &account).await?;
            let rule = |current| rules::set_operator(current, &id, &name);
            directory.change_operators(&account, rule).await?;
            let (shown_id, shown) = (printable(&id), printable(&name));
            let text = format!("operator {shown_id} of account {account}: name {shown}");
            Ok(Answer::new(text, json!({"account": account, "operator": id, "name": name})))
        }
        OperatorCommand::List { account } => {
            let operators = directory.operators(&account).await?;
            let json: Vec<_> =
                operators.iter().map(|(id, name)| json!({"operator": id, "name": name})).collect();
            if operators.is_empty() {
                let text = format!(
                    "no operator of account {account} has a name; `botstats operator set` gives one"
                );
                return Ok(Answer::new(text, json!([])));
            }
            let rows: Vec<Vec<String>> =
                operators.iter().map(|(id, name)| vec![printable(id), printable(name)]).collect();
            let columns = [("OPERATOR", Align::Left), ("NAME", Align::Left)];
            Ok(Answer::new(table(&columns, &rows), serde_json::Value::from(json)))
        }
        OperatorCommand::Remove { account, id } => {
            let rule = |current| rules::remove_operator(current, &id);
            directory.change_operators(&account, rule).await?;
            let text = format!("operator {} of account {account} has no name", printable(&id));
            Ok(Answer::new(text, json!({"account": account, "operator": id, "name": null})))
        }
    }
}
