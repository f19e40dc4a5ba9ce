//! What `Get-Help` shows.

use std::fmt::Write;

use super::cmdlet::{Cmdlet, Parameter};

/// Help for a cmdlet.
pub fn of(cmdlet: Cmdlet) -> String {
    let mut text = format!(
        "\nNAME\n    {}\n\nSYNOPSIS\n    {}\n\nSYNTAX\n    {}\n\nPARAMETERS\n",
        cmdlet.name(),
        cmdlet.synopsis(),
        syntax(cmdlet)
    );
    for parameter in cmdlet.parameters() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {}", usage(parameter));
        for line in wrapped(parameter.description) {
            let _ = writeln!(text, "        {line}");
        }
        let required = if parameter.is_mandatory {
            "true"
        } else {
            "false"
        };
        let _ = writeln!(text, "        Required?    {required}\n");
    }
    let _ = writeln!(text, "EXAMPLES\n    PS> {}\n", cmdlet.example());
    text
}

/// All cmdlets, a line each.
pub fn all() -> String {
    let lines = Cmdlet::ALL.iter().map(|cmdlet| {
        let (name, synopsis) = (cmdlet.name(), cmdlet.synopsis());
        format!("{name:<30}{synopsis}\n")
    });
    format!(
        "\n{}\nGet-Help NAME shows one of them.\n\n",
        lines.collect::<String>()
    )
}

fn syntax(cmdlet: Cmdlet) -> String {
    let parameters = cmdlet.parameters().iter().map(|parameter| {
        let usage = usage(parameter);
        match parameter.is_mandatory {
            true => usage,
            false => format!("[{usage}]"),
        }
    });
    let parameters = parameters.collect::<Vec<_>>().join(" ");
    format!("{} {parameters}", cmdlet.name())
}

fn usage(parameter: &Parameter) -> String {
    match parameter.takes.type_name() {
        Some(kind) => format!("-{} <{kind}>", parameter.name),
        None => format!("-{}", parameter.name),
    }
}

/// Lines of at most 70 letters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < 70 => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hcs::bind::bind;

    #[test]
    fn help_says_what_a_cmdlet_takes() {
        let text = of(Cmdlet::RemoveBgpPeer);
        assert!(
            text.contains(
                "Remove-HcsBGPPeer -PeerAddress <IPAddress> -SwitchName <String> [-WhatIf] [-Verbose]\n"
            ),
            "{text}"
        );
        assert!(
            text.lines().filter(|line| line.len() > 80).count() <= 2,
            "{text}"
        );
        assert_eq!(all().matches("Hcs").count(), 4);
    }

    #[test]
    fn every_example_is_right() {
        for cmdlet in Cmdlet::ALL {
            let mut words = cmdlet.example().split_whitespace().map(str::to_owned);
            let name = words.next().unwrap();
            assert_eq!(Cmdlet::by_name(&name), Some(cmdlet));
            bind(cmdlet, &words.collect::<Vec<_>>()).unwrap();
        }
    }
}
