//! The answer of `tracer status` as text: is an address answered, why not, what is configured, to whom is it open.

use anstyle::Style;

use super::settings::{by_source, setting};
use super::{ALARM, CHANGE, FAINT, GOOD, Text, put, shown};
use crate::output::schema::{
    Authentication, ConfiguredValue, Exposure, Probe, ProbeOutcome, Process, Status, Time,
};
use crate::output::words::{ago, in_brackets};

impl Text {
    pub(super) fn status(&mut self, status: &Status, time: Time, text: &mut String) {
        let target = format!("{}:{}", in_brackets(&status.addr), status.port);
        let (style, answer) = match (status.is_local, status.answered) {
            (_, true) => (GOOD, "answered "),
            (true, false) => (ALARM, "refused  "),
            (false, false) => (CHANGE, "not local"),
        };
        put(text, format_args!("{target:<22}  {style}{answer}{style:#} {}\n", status.summary));
        if let Some(verdict) = &status.verdict {
            self.detail("why: ", FAINT, &format!("{}: {}", verdict.cause.name(), verdict.summary), text);
            if let Some(hint) = &verdict.hint {
                self.detail("hint: ", GOOD, hint, text);
            }
        }
        if let Some(probe) = &status.probe {
            self.detail("probe: ", FAINT, &probed(probe), text);
        }
        if status.may_be_redirected == Some(true) {
            self.detail_once(
                "note: ",
                FAINT,
                "this network namespace has NAT rules, which may lead a connect elsewhere: --probe connects",
                text,
            );
        }
        let listeners = || status.listeners.iter().map(|evaluated| &evaluated.listener);
        let processes: Vec<&Process> = listeners().map(|listener| &listener.process).collect();
        // A setting that decides who can connect is printed with what is open.
        let is_of_access = |claim: &&ConfiguredValue| {
            let mut of = status.exposures.iter().filter_map(|exposure| exposure.authentication.as_ref());
            of.any(|authentication| authentication.what == claim.what)
        };
        let values: Vec<&ConfiguredValue> =
            status.claims.iter().filter(|claim| !is_of_access(claim)).collect();
        for source in by_source(&values) {
            let shown: Vec<String> = source
                .iter()
                .map(|claim| {
                    let agrees = match claim.agrees {
                        Some(true) => " (agrees)",
                        Some(false) => " (does not agree)",
                        None => "",
                    };
                    format!("{}{agrees}", setting(claim))
                })
                .collect();
            let words = self.configured_source(source, &shown.join(", "), &processes, time);
            self.detail_once("setting: ", FAINT, &words, text);
        }
        for exposure in &status.exposures {
            let words = exposed(exposure, exposure.netns == status.netns);
            let style = match &exposure.authentication {
                Some(Authentication { is_asked: Some(false), .. }) => ALARM,
                Some(_) | None => CHANGE,
            };
            self.detail_once("open: ", style, &words, text);
        }
    }

    /// A detail that is the same for several addresses, printed once.
    fn detail_once(&mut self, label: &str, style: Style, words: &str, text: &mut String) {
        if self.details.is_new(format!("{label}{words}")) {
            self.detail(label, style, words, text);
        }
    }
}

/// What a listener is open to, and what it asks its clients for.
fn exposed(exposure: &Exposure, is_own: bool) -> String {
    let Exposure { addr, port, netns, every_interface, addresses, authentication, .. } = exposure;
    let at = format!("{}:{port}", in_brackets(addr));
    let netns = if is_own { String::new() } else { format!(" of {}", shown(netns)) };
    let now: Vec<String> = addresses.iter().map(|addr| in_brackets(addr)).collect();
    let reach = match (every_interface, now.as_slice()) {
        (true, []) => format!("{at} on every interface{netns}"),
        (true, now) => format!("{at} on every interface{netns}: {}", now.join(", ")),
        (false, [one]) if *one == in_brackets(addr) => format!("{at} on that address alone{netns}"),
        (false, now) => format!("{at}{netns}: {}", now.join(", ")),
    };
    match authentication {
        Some(Authentication { what, is_asked: Some(true) }) => {
            format!("{reach}; configured to ask for {what}")
        }
        Some(Authentication { what, is_asked: Some(false) }) => {
            format!("{reach}; configured to ask for neither {what} nor anything else")
        }
        Some(Authentication { what, is_asked: None }) => {
            format!("{reach}; not known whether it asks for {what}")
        }
        None => reach,
    }
}

/// The outcome of a connect that `--probe` made.
fn probed(probe: &Probe) -> String {
    let outcome = match probe.outcome {
        ProbeOutcome::Answered => "a connect was answered",
        ProbeOutcome::Refused => "a connect was refused",
        ProbeOutcome::TimedOut => "nothing came of a connect",
        ProbeOutcome::Failed => "a connect failed",
    };
    let errno = probe.errno.as_ref().map_or_else(String::new, |errno| format!(" ({errno})"));
    format!("{outcome}{errno} after {}", ago(probe.latency_us * 1_000))
}
