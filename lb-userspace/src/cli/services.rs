//! `torline services`, `torline service` and `torline backends`: what is
//! served, from the agent's status.

use std::fmt::Write;
use std::path::Path;

use super::status::{backends, lines, or_dash, services, traffic};
use super::{Refused, ask, print};
use crate::model::status::{FrontendStatus, ServiceStatus, Status};

/// Prints the Services, for people or as one line of JSON.
pub(super) fn services_of(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status: Status = ask(socket, "/v1/status")?;
    print(&if json {
        serde_json::to_string(&status.services)? + "\n"
    } else if status.services.is_empty() {
        "no Services of type LoadBalancer\n".to_owned()
    } else {
        lines(&services(&status.services), "")
    })
}

/// Prints the frontends and their backends.
pub(super) fn backends_of(socket: &Path, json: bool) -> anyhow::Result<()> {
    let status: Status = ask(socket, "/v1/status")?;
    print(&if json {
        serde_json::to_string(&status.frontends)? + "\n"
    } else if status.frontends.is_empty() {
        "no frontends\n".to_owned()
    } else {
        lines(&backends(&status.frontends), "")
    })
}

/// Prints one Service.
pub(super) fn service_of(socket: &Path, name: &str, json: bool) -> anyhow::Result<()> {
    let status: Status = ask(socket, "/v1/status")?;
    let service = find(&status.services, name)?;
    let frontends = status.frontends.iter();
    let frontends: Vec<_> = frontends
        .filter(|frontend| frontend.service == service.name)
        .cloned()
        .collect();
    print(&if json {
        let value = serde_json::json!({ "service": service, "frontends": frontends });
        value.to_string() + "\n"
    } else {
        render(service, &frontends)
    })
}

/// The Service of a name, which may leave its namespace out where that is clear.
fn find<'a>(services: &'a [ServiceStatus], name: &str) -> Result<&'a ServiceStatus, Refused> {
    let is_it = |service: &&ServiceStatus| {
        service.name == name
            || service
                .name
                .split_once('/')
                .is_some_and(|(_, own)| own == name)
    };
    let found: Vec<_> = services.iter().filter(is_it).collect();
    match found.as_slice() {
        [service] => Ok(service),
        [] => Err(Refused(format!(
            "there is no Service {name} of type LoadBalancer; `torline services` lists those there are"
        ))),
        several => {
            let names: Vec<_> = several.iter().map(|it| it.name.as_str()).collect();
            Err(Refused(format!(
                "which {name}? there are: {}",
                names.join(", ")
            )))
        }
    }
}

fn render(service: &ServiceStatus, frontends: &[FrontendStatus]) -> String {
    let addresses: Vec<_> = service.addresses.iter().map(ToString::to_string).collect();
    let mut text = format!("{}\n", service.name);
    let mut say = |title: &str, what: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {title:<14}{what}");
    };
    say("addresses", &or_dash(&addresses.join(" ")));
    say(
        "pool",
        &or_dash(service.pool.as_deref().unwrap_or_default()),
    );
    say("BGP peers", &or_dash(&service.announced_to.join(" ")));
    say(
        "ARP and NDP",
        &or_dash(service.l2_leader.as_deref().unwrap_or_default()),
    );
    for (title, reason) in [
        ("no address", &service.error),
        ("not announced", &service.not_announced),
    ] {
        if let Some(reason) = reason {
            say(title, reason);
        }
    }
    for frontend in frontends {
        let digest = or_dash(&frontend.digest);
        say(
            "table",
            &format!(
                "{} has {} slots, digest {digest}",
                frontend.name, frontend.table_length
            ),
        );
    }
    if !frontends.is_empty() {
        let (behind, carried) = (backends(frontends), traffic(frontends));
        let _ = write!(
            text,
            "\n{}\n{}",
            lines(&behind, "  "),
            lines(&carried, "  ")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(name: &str) -> ServiceStatus {
        ServiceStatus {
            name: name.to_owned(),
            addresses: vec!["203.0.113.10".parse().unwrap()],
            not_announced: Some("noPeer".to_owned()),
            ..ServiceStatus::default()
        }
    }

    #[test]
    fn a_service_is_found_with_and_without_its_namespace() {
        let services = [service("a/web"), service("b/web"), service("b/db")];
        assert_eq!(find(&services, "b/web").unwrap().name, "b/web");
        assert_eq!(find(&services, "db").unwrap().name, "b/db");
        let error = find(&services, "web").unwrap_err().to_string();
        assert_eq!(error, "which web? there are: a/web, b/web");
        let error = find(&services, "nothing").unwrap_err().to_string();
        assert!(error.contains("`torline services`"), "{error}");
    }

    #[test]
    fn a_service_tells_why_it_is_not_announced_and_what_is_behind_it() {
        let frontend = FrontendStatus {
            name: "203.0.113.10:80/tcp".to_owned(),
            digest: "abcd".to_owned(),
            table_length: 1024,
            ..FrontendStatus::default()
        };
        let text = render(&service("a/web"), &[frontend]);
        for line in [
            "  not announced noPeer\n",
            "  addresses     203.0.113.10\n",
            "203.0.113.10:80/tcp has 1024 slots, digest abcd",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
