//! `evctl alerts ack`.

use clap::Args;
use ev_client::{
    Client,
    proto::ev::thermal::v1::{AcknowledgeAlertRequest, Alert, AlertState},
};

use super::text;
use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{self, BOLD},
};

/// Say that somebody knows of an alert: it is not sent again, and may end.
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever acknowledges first is kept. When the alert rises to a higher severity, it has to be
acknowledged again.

Examples:
  evctl alerts ack 01994d6e-5c1f-7cc0-98b5-3c2f5d0e7a11 --by 'night shift'
  evctl alerts ack 01994d6e-5c1f-7cc0-98b5-3c2f5d0e7a11 --by kim --note 'charger 4 is switched off'")]
pub(crate) struct AcknowledgeCommand {
    /// The alert, by its id as `evctl alerts list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    /// Who knows of it: a person or a team, at most 128 bytes.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// What there is to say about it, at most 1024 bytes.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
}

// === impl AcknowledgeCommand ===

impl AcknowledgeCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let AcknowledgeCommand { id, by, note } = self;
        let request = AcknowledgeAlertRequest { id, by: by.clone(), note };
        let response = client.thermal().acknowledge_alert(request).await?;
        let alert = response.alert.clone().unwrap_or_default();
        output.answer(&Json::new("ev.thermal.v1.AcknowledgeAlertResponse", &response), || render(&alert))?;
        if alert.acknowledgement.as_ref().is_some_and(|known| known.by != by) {
            output.advise("it was acknowledged before; who did so first is kept");
        }
        Ok(Exit::Ok)
    }
}

fn render(alert: &Alert) -> String {
    let (severity, vehicle, topic) = (alert.severity(), &alert.vehicle_id, text::topic(alert.topic()));
    let (style, name) = (style::of_severity(severity), style::severity_name(severity));
    let known_by = text::known_by(alert);
    let end = if alert.state() == AlertState::Ended { "; it has ended" } else { "" };
    format!("{BOLD}{vehicle}{BOLD:#} {topic} {style}{name}{style:#}: acknowledged by {known_by}{end}")
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;
    use ev_client::proto::ev::thermal::v1::AlertAcknowledgement;

    use super::*;
    use crate::alerts::text::tests::{ended, nearly_empty};

    #[test]
    fn an_acknowledged_alert_names_who_knows() {
        let check =
            |alert: &Alert, expected: &str| assert_eq!(strip_str(&render(alert)).to_string(), expected, "{alert:?}");
        let known = AlertAcknowledgement { by: "kim".to_owned(), ..AlertAcknowledgement::default() };
        let open = Alert { acknowledgement: Some(known), ..nearly_empty() };
        check(&open, "car-1 state-of-charge MEDIUM: acknowledged by kim");
        check(&ended(), "car-1 state-of-charge MEDIUM: acknowledged by depot [2J; it has ended");
    }
}
