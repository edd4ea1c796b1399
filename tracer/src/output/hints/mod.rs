//! What to do about a refusal: one table, by cause and by who owns the socket, the first row that fits.
//!
//! A hint is true for the case or absent. The remedy that exposes least comes first; no hint sets what a file sets already;
//! and a hint that opens more addresses also states who can then connect, and what protects the server.
//!
//! | file | job |
//! |---|---|
//! | `table.rs` | the generic rows, and the places of the products' rows among them |
//! | `case.rs` | what a row sees: the subject, the socket and process that it is about, their facts |
//! | `owner.rs` | what a process is, by its name and program |
//! | `words.rs` | conditions and phrases that several rows have in common |

pub mod case;
pub mod owner;
pub mod table;
mod words;

use crate::output::subject::Subject;
use case::Case;
use owner::Kind;
use table::AnyRow;

/// What to do; `None`: no remedy is known.
pub fn hint(subject: &Subject<'_>) -> Option<String> {
    if subject.is_led_away() {
        // A listener that is missing at the connect's own destination is not why it was refused.
        let port = subject.port();
        return Some(format!(
            "conntrack -L -p tcp --dport {port} shows whereto; see what listens there, or take the NAT rule away: nft list \
             ruleset | grep -n {port} (also iptables-save -t nat{})",
            subject.inside()
        ));
    }
    let case = Case::of(subject);
    select(&case)?.hint(&case)
}

/// The first row of the table that fits.
pub fn select(case: &Case<'_>) -> Option<AnyRow> {
    let product = match &case.kind {
        Kind::Product(product) => std::slice::from_ref(product),
        _ => &[],
    };
    table::rows_of(product).find(|row| row.fits(case))
}
