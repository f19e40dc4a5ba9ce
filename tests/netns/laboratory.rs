//! The laboratory itself: what every other test here relies on.

use std::fs;
use std::process::Command;

use harness::netns::Netns;

#[test]
fn a_namespace_has_its_own_interfaces_and_its_own_sys() {
    let netns = Netns::new("own").unwrap();
    netns.ip("link add here type veth peer name there").unwrap();
    let mut links = netns.enter(|| {
        let entries = fs::read_dir("/sys/class/net").unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    });
    links.sort();
    assert_eq!(links, ["here", "lo", "there"]);
    assert!(!fs::exists("/sys/class/net/here").unwrap());
}

#[test]
fn a_namespace_is_gone_with_its_processes_after_a_panic() {
    let netns = Netns::new("panic").unwrap();
    let name = netns.name().to_owned();
    let mut child = netns.start(Command::new("sleep").arg("60")).unwrap();
    let outcome = std::thread::spawn(move || {
        let _netns = netns;
        panic!("as a failing test would");
    });
    assert!(outcome.join().is_err());
    assert!(!fs::exists(format!("/run/netns/{name}")).unwrap());
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_command_that_fails_says_what_it_said() {
    let netns = Netns::new("fail").unwrap();
    let error = netns
        .run(["ip", "link", "set", "nowhere", "up"])
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("Cannot find device"),
        "{error:#}"
    );
}
