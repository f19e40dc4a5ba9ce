//! What `--help` and `Get-Help` tell a reader to type, typed.

use std::process::Command;

use harness::agent::binary;
use harness::machine;

use crate::device::Device;

/// Commands that can be typed in this order on a device with an agent: all but `run` and `detach`.
const COMMANDS: [&[&str]; 22] = [
    &["status"],
    &["services"],
    &["service"],
    &["backends"],
    &["members"],
    &["peers"],
    &["routes"],
    &["version"],
    &["crds"],
    &["secret"],
    &["completions"],
    &["man"],
    &["install-cmdlets"],
    &["doctor"],
    &["vswitch", "list"],
    &["vswitch", "show"],
    &["peer", "set"],
    &["peer", "list"],
    &["peer", "show"],
    &["peer", "remove"],
    &["compute", "enable"],
    &["compute", "disable"],
];

/// Lines below `Examples:` that begin with `torline`.
fn examples(help: &str) -> Vec<&str> {
    let (_, rest) = help.split_once("Examples:\n").unwrap_or_default();
    let lines = rest.lines().map(str::trim);
    lines.filter(|line| line.starts_with("torline ")).collect()
}

#[test]
fn every_example_works_on_the_device() {
    if !machine::can_test() {
        return;
    }
    let device = Device::new().unwrap();
    // Of its own making, for compute to be enabled on.
    let path = device.source().join("device.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_once("---\n").unwrap();
    std::fs::write(&path, rest).unwrap();
    let made = [
        "compute",
        "enable",
        "--port",
        "Port2",
        "--interface",
        "eth1",
    ];
    harness::wait::until("the switch to be made", crate::device::LIMIT, || {
        let said = device.torline(&made)?;
        anyhow::ensure!(said.out.contains("vswitch1 written"), "{said:?}");
        Ok(())
    })
    .unwrap();
    let bin = device.bin().display().to_string();
    for command in COMMANDS {
        let help = device.torline(&[command, &["--help"]].concat()).unwrap();
        let lines = examples(&help.out);
        assert!(!lines.is_empty(), "{command:?} has no example");
        for line in lines {
            let line = line
                .replace("/usr/local/bin", &bin)
                .replace("/tmp/torline-man", &bin);
            let line = line.replace("eth0", "eth1");
            let words: Vec<_> = line.split_whitespace().skip(1).collect();
            let said = device.torline(&words).unwrap();
            // What is wrong with this machine is not the device's fault.
            let is_well = said.code == Some(0) || command == ["doctor"] && said.err.is_empty();
            assert!(
                is_well && !said.out.is_empty() || command == ["man"],
                "{line}: {said:?}"
            );
        }
    }
}

#[test]
fn help_is_shown_in_every_way_that_powershell_has() {
    let program = binary().unwrap();
    let ask = |arguments: &[&str]| {
        let output = Command::new(&program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = ask(&["Get-Help", "set-hcsbgppeer"]);
    assert_eq!(text, ask(&["Set-HcsBGPPeer", "-?"]));
    assert!(text.contains("SYNTAX"), "{text}");
    assert!(ask(&["Get-Help"]).contains("Remove-HcsBGPPeer"));

    let output = Command::new(&program)
        .arg("Get-HcsNothing")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("The term 'Get-HcsNothing' is not recognized"),
        "{text}"
    );
}
