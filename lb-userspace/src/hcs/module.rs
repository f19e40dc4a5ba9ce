//! A PowerShell module with the cmdlets, for a shell that reaches the device by
//! SSH.
//!
//! Each function hands its parameters to the cmdlet of the same name on the device; what is printed there as
//! JSON comes back as objects.

use std::fmt::Write;

use super::cmdlet::{AS_JSON, Cmdlet, Parameter, Takes, VERBOSE, WHAT_IF};

const HEAD: &str = r#"# The cmdlets of a Torline device, carried out there over SSH.
#
#   $env:TORLINE_DEVICE = 'admin@edge-device'
#   Import-Module ./Torline.psm1
#
# Written by `torline completions powershell-module`; changes by hand are lost.

function Invoke-Torline {
    param([string] $Cmdlet, [System.Collections.IDictionary] $Parameters, [bool] $AsObject)

    if (-not $env:TORLINE_DEVICE) {
        throw 'Set $env:TORLINE_DEVICE to the device: user@host.'
    }
    $words = @('torline', $Cmdlet)
    foreach ($entry in $Parameters.GetEnumerator()) {
        if ($entry.Value -is [System.Management.Automation.SwitchParameter]) {
            $words += "-$($entry.Key):$([int] $entry.Value.IsPresent)"
        }
        else {
            # The device's shell reads the line: a quote ends, is escaped, and begins again.
            $value = ([string] $entry.Value) -replace "'", "'\''"
            $words += "-$($entry.Key)", "'$value'"
        }
    }
    if (-not $AsObject) {
        & ssh $env:TORLINE_DEVICE ($words -join ' ')
        return
    }
    $json = & ssh $env:TORLINE_DEVICE (($words + '-AsJson') -join ' ')
    if ($LASTEXITCODE -eq 0 -and $json) {
        $json -join "`n" | ConvertFrom-Json | ForEach-Object { $_ }
    }
}
"#;

/// The text of the module.
pub fn text() -> String {
    let mut text = HEAD.to_owned();
    for cmdlet in Cmdlet::ALL {
        text.push('\n');
        text.push_str(&function(cmdlet));
    }
    let names = Cmdlet::ALL.map(Cmdlet::name).join(", ");
    // Writing to a string cannot fail.
    let _ = writeln!(text, "\nExport-ModuleMember -Function {names}");
    text
}

fn function(cmdlet: Cmdlet) -> String {
    let changes = has(cmdlet, WHAT_IF);
    let binding = match changes {
        true => "[CmdletBinding(SupportsShouldProcess = $true)]",
        false => "[CmdletBinding()]",
    };
    let parameters = cmdlet.parameters().iter();
    let own = parameters.filter(|it| ![WHAT_IF, VERBOSE].contains(&it.name));
    let declared: Vec<_> = own.map(declaration).collect();
    let as_object = match has(cmdlet, AS_JSON) {
        true => "(-not $AsJson)",
        false => "$false",
    };
    format!(
        "function {name} {{\n    <#\n    .SYNOPSIS\n    {synopsis}\n    .EXAMPLE\n    {example}\n    #>\n    \
         {binding}\n    param(\n{declared}\n    )\n    \
         Invoke-Torline '{name}' $PSBoundParameters {as_object}\n}}\n",
        name = cmdlet.name(),
        synopsis = cmdlet.synopsis(),
        example = cmdlet.example(),
        declared = declared.join(",\n\n"),
    )
}

fn has(cmdlet: Cmdlet, name: &str) -> bool {
    cmdlet.parameters().iter().any(|it| it.name == name)
}

fn declaration(parameter: &Parameter) -> String {
    let kind = match parameter.takes {
        Takes::Nothing => "switch",
        Takes::Text => "string",
        Takes::Address => "ipaddress",
        Takes::Asn => "uint32",
        Takes::Seconds => "uint16",
    };
    let mandatory = match parameter.is_mandatory {
        true => "[Parameter(Mandatory = $true)] ",
        false => "",
    };
    format!(
        "        # {}\n        {mandatory}[{kind}] ${}",
        parameter.description, parameter.name
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_module_is_the_one_that_was_looked_at() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/hcs/module/Torline.psm1");
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text()).unwrap();
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            known == text(),
            "it changed: run `BLESS=1 cargo test -p lb-userspace the_module_is` and look at it"
        );
    }

    #[test]
    fn braces_and_parentheses_are_closed() {
        let text = text();
        for (open, close) in [('{', '}'), ('(', ')'), ('[', ']')] {
            assert_eq!(text.matches(open).count(), text.matches(close).count());
        }
    }
}
