//! What a connect would be refused for if it were made now: the rules of a trace, asked once and without its history.

use std::net::IpAddr;

use crate::model::cause::Because;
use crate::model::kernel_event::{Refused, Role, Via};
use crate::model::process::Process;
use crate::model::socket::NetnsId;
use crate::model::time::{Interval, Mono};
use crate::query::{Observation, QueryKind};
use crate::state::HostState;
use crate::verdict::evidence::{self, Verdict};
use crate::verdict::planner::{self, Purpose};
use crate::verdict::{rules, uncertainty};

/// How often it is asked on: each answer can lead to a question, and no rule needs more than a few.
const ROUNDS_MAX: usize = 8;

/// The client, its namespace, and its destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intended {
    pub client: Process,
    pub netns: NetnsId,
    pub dst: IpAddr,
    pub dst_port: u16,
}

impl Intended {
    /// The refusal that it would be, at this time.
    fn refused(self, time: Mono, state: &HostState) -> Refused {
        let Self { client, netns, dst, dst_port } = self;
        Refused {
            time,
            started: time,
            netns,
            netns_cookie: state.namespaces.cookie(netns),
            client,
            cgroup: 0,
            src: dst,
            src_port: None,
            dst,
            dst_port,
            device: None,
            via: Via::Rst,
            sent_by: None,
            icmp: None,
            role: Role::Client,
        }
    }
}

/// Finds the verdict on a connect that would be refused: what the rules need to know is asked, until nothing is left to
/// ask. What is not answered stays unknown.
pub fn inquire(
    intended: Intended,
    time: Mono,
    state: &mut HostState,
    mut ask: impl FnMut(QueryKind) -> Option<(Observation, Interval)>,
) -> (Refused, Verdict) {
    let refused = intended.refused(time, state);
    let mut asked: Vec<QueryKind> = Vec::new();
    let mut classification = rules::classify(&refused, state);
    for _ in 0..ROUNDS_MAX {
        let verdict = evidence::gather(&refused, classification.clone(), state);
        let purpose = Purpose::Report(&verdict);
        let mut queries = planner::plan(&refused, &classification, state, (purpose, time));
        queries.retain(|query| !asked.iter().any(|before| before.is_about_the_same(query)));
        if queries.is_empty() {
            break;
        }
        for query in queries {
            asked.push(query.clone());
            if let Some((observation, interval)) = ask(query) {
                state.observe(observation, interval);
            }
        }
        classification = rules::classify(&refused, state);
    }
    // The port was not watched until now: what failed, and what closed, is not known.
    classification.because.push(Because::BeforeReady);
    classification.because = uncertainty::in_order(classification.because);
    let verdict = evidence::gather(&refused, classification, state);
    (refused, verdict)
}
