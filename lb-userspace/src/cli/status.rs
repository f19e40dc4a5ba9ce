//! `torline status`: asks the agent, prints tables.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::{ask, print};
use crate::model::status::{
    BfdSessionStatus, FindingStatus, FrontendStatus, NodeStatus, PeerStatus, ServiceStatus,
    SessionReport, Status,
};

/// Columns that lists of counters take at most.
const WIDTH: usize = 80;

/// Prints the agent's status, for people or as one line of JSON.
pub(super) fn show(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status: Status = ask(socket, "/v1/status")?;
    print(&if json {
        serde_json::to_string(&status)? + "\n"
    } else {
        render(&status)
    })
}

/// The tables, each left out where it would be empty. What only machines compare is in the JSON form.
fn render(status: &Status) -> String {
    let mut text = head(status);
    for (title, table) in [
        ("services", services(&status.services)),
        ("backends", backends(&status.frontends)),
        ("traffic", traffic(&status.frontends)),
        ("sessions", sessions(&status.sessions)),
        ("nodes", nodes(&status.nodes)),
        ("findings", findings(&status.findings)),
    ] {
        if !table.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{title}\n{}", lines(&table, "  "));
        }
    }
    text
}

/// The lines of a table, each after `indent`.
pub(super) fn lines(table: &Table, indent: &str) -> String {
    let lines = table.lines();
    lines
        .map(|line| format!("{indent}{}\n", line.trim_end()))
        .collect()
}

/// Prints the version of this program, and of the agent if one runs.
pub(super) fn version(socket: &Path, json: bool) -> anyhow::Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    let agent = ask::<Status>(socket, "/v1/status").ok();
    let agent = agent.map(|status| status.version);
    print(&if json {
        serde_json::json!({ "program": own, "agent": agent }).to_string() + "\n"
    } else {
        let agent = agent.unwrap_or_else(|| "none answers".to_owned());
        format!("torline {own}\nagent   {agent}\n")
    })
}

fn head(status: &Status) -> String {
    let sync = if status.in_sync {
        "in sync"
    } else {
        "NOT in sync"
    };
    format!(
        "node       {}, torline {}\n\
         source     {}, {sync}\n\
         interface  {} (index {}), {} XDP\n\
         slots      {} of {}, {} of maps\n\
         {drops}{outcomes}{agents}",
        status.node,
        status.version,
        status.source,
        status.attach.interface,
        status.attach.ifindex,
        status.attach.mode,
        grouped(status.slots.used.into()),
        grouped(status.slots.total.into()),
        mebibytes(status.map_bytes),
        drops = listed("drops", &status.drops).unwrap_or_else(|| "drops      none\n".to_owned()),
        outcomes = listed("outcomes", &status.outcomes).unwrap_or_default(),
        agents = listed("agents", &told(&status.peer)).unwrap_or_default(),
    )
}

/// What agents told each other, by the names of the JSON form.
fn told(peer: &PeerStatus) -> BTreeMap<String, u64> {
    let fields = serde_json::to_value(peer).ok();
    fields
        .and_then(|fields| serde_json::from_value(fields).ok())
        .unwrap_or_default()
}

/// What was counted, in lines of at most [`WIDTH`] columns; nothing if nothing was.
fn listed(label: &str, counts: &BTreeMap<String, u64>) -> Option<String> {
    let counts = counts.iter().filter(|(_, count)| **count > 0);
    let counts: Vec<_> = counts
        .map(|(name, count)| format!("{name} {}", grouped(*count)))
        .collect();
    let mut lines = vec![format!("{label:<10}")];
    for (index, count) in counts.iter().enumerate() {
        let comma = if index + 1 < counts.len() { "," } else { "" };
        let line = lines.last_mut()?;
        if line.len() + 1 + count.len() + comma.len() > WIDTH {
            lines.push(format!("{:<10} {count}{comma}", ""));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(line, " {count}{comma}");
        }
    }
    (!counts.is_empty()).then(|| lines.join("\n") + "\n")
}

pub(super) fn services(services: &[ServiceStatus]) -> Table {
    let mut table = table(["SERVICE", "ADDRESSES", "POOL", "BGP", "ARP/NDP", "NOTE"]);
    for service in services {
        let note = service.error.as_ref().or(service.not_announced.as_ref());
        table.add_row([
            service.name.clone(),
            or_dash(&join(&service.addresses)),
            or_dash(service.pool.as_deref().unwrap_or_default()),
            or_dash(&service.announced_to.join(" ")),
            or_dash(service.l2_leader.as_deref().unwrap_or_default()),
            note.cloned().unwrap_or_default(),
        ]);
    }
    table
}

pub(super) fn backends(frontends: &[FrontendStatus]) -> Table {
    let mut table = table(["FRONTEND", "BACKEND", "NODE", "STATE", "WEIGHT", "SHARE"]);
    right_aligned(&mut table, [4, 5]);
    for frontend in frontends {
        let mut name = frontend.name.as_str();
        if let Some(reason) = &frontend.refused {
            table.add_row([name, &format!("refused: {reason}")]);
        } else if frontend.backends.is_empty() {
            table.add_row([name, "none"]);
        }
        for backend in &frontend.backends {
            let share = 100.0 * f64::from(backend.slots) / f64::from(frontend.table_length.max(1));
            table.add_row([
                name.to_owned(),
                format!("{}:{}", bracketed(&backend.address), backend.port),
                backend.node.clone(),
                backend.state.clone(),
                backend.weight.to_string(),
                format!("{share:.1} %"),
            ]);
            // The name once, then its backends under each other.
            name = "";
        }
    }
    table
}

pub(super) fn traffic(frontends: &[FrontendStatus]) -> Table {
    let mut table = table([
        "FRONTEND",
        "SERVICE",
        "PACKETS",
        "BYTES",
        "FLOWS",
        "DELIVERED",
    ]);
    right_aligned(&mut table, [2, 3, 4, 5]);
    for frontend in frontends {
        table.add_row([
            frontend.name.clone(),
            frontend.service.clone(),
            grouped(frontend.packets),
            grouped(frontend.bytes),
            grouped(frontend.flows),
            grouped(frontend.delivered),
        ]);
    }
    table
}

fn sessions(sessions: &[SessionReport]) -> Table {
    let mut table = table([
        "PEER", "ADDRESS", "STATE", "UP", "HOLD", "BFD", "ROUTES", "NOTE",
    ]);
    right_aligned(&mut table, [6]);
    for session in sessions {
        table.add_row([
            session.peer.clone(),
            session.address.clone(),
            session.state.clone(),
            or_dash(&session.uptime_seconds.map(uptime).unwrap_or_default()),
            or_dash(
                &session
                    .hold_time_seconds
                    .map(|hold| format!("{hold}s"))
                    .unwrap_or_default(),
            ),
            or_dash(&session.bfd.as_ref().map(bfd).unwrap_or_default()),
            grouped(session.routes.len() as u64),
            session_note(session),
        ]);
    }
    table
}

/// The state, and how soon a loss is seen.
fn bfd(bfd: &BfdSessionStatus) -> String {
    match bfd.detect_ms {
        Some(time) if bfd.state == "up" => format!("up, {time}ms"),
        _ => bfd.state.clone(),
    }
}

/// Which families stay unsaid, what hinders BFD, and why it was down last.
fn session_note(session: &SessionReport) -> String {
    let error = session
        .last_error
        .as_ref()
        .map(|error| match session.uptime_seconds {
            Some(_) => format!("before: {error}"),
            None => error.clone(),
        });
    let failure = session.bfd.iter().filter_map(|bfd| bfd.failure.clone());
    let notes: Vec<_> = session
        .not_announced
        .iter()
        .cloned()
        .chain(failure)
        .chain(error)
        .collect();
    notes.join("; ")
}

fn nodes(nodes: &[NodeStatus]) -> Table {
    let mut table = table(["NODE", "STATE", "REACHED BY", "MAC", "ADDRESSES"]);
    for node in nodes {
        table.add_row([
            node.name.clone(),
            or_dash(&node.state),
            node.mode.clone(),
            or_dash(node.mac.as_deref().unwrap_or_default()),
            or_dash(&join(&node.addresses)),
        ]);
    }
    table
}

fn findings(findings: &[FindingStatus]) -> Table {
    let mut table = table(["WHERE", "OBJECT", "FIELD", "WHAT"]);
    for finding in findings {
        table.add_row([
            or_dash(&finding.source),
            or_dash(&finding.object),
            or_dash(&finding.field),
            finding.message.clone(),
        ]);
    }
    table
}

/// A table without lines, two spaces between columns. Long cells are not wrapped: the terminal does it,
/// and `grep` finds whole rows.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

fn right_aligned<const N: usize>(table: &mut Table, columns: [usize; N]) {
    for index in columns {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

pub(super) fn join(items: &[impl ToString]) -> String {
    let items: Vec<_> = items.iter().map(ToString::to_string).collect();
    items.join(" ")
}

pub(super) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn mebibytes(bytes: u64) -> String {
    const TENTH: u64 = (1 << 20) / 10;
    let tenths = bytes / TENTH;
    format!("{}.{} MiB", grouped(tenths / 10), tenths % 10)
}

/// The two largest units.
pub(super) fn uptime(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests;
