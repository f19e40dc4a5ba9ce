# The cmdlets of a Torline device, carried out there over SSH.
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

function Get-HcsExternalVirtualSwitch {
    <#
    .SYNOPSIS
    Lists the external virtual switches of this device.
    .EXAMPLE
    Get-HcsExternalVirtualSwitch
    #>
    [CmdletBinding()]
    param(
        # Print JSON instead.
        [switch] $AsJson
    )
    Invoke-Torline 'Get-HcsExternalVirtualSwitch' $PSBoundParameters (-not $AsJson)
}

function Set-HcsBGPPeer {
    <#
    .SYNOPSIS
    Makes or changes a BGP peer on a virtual switch.
    .EXAMPLE
    Set-HcsBGPPeer -PeerAddress 10.126.77.125 -PeerAsn 64512 -SelfAsn 64513 -SwitchName vSwitch1 -HoldTimeInSeconds 15
    #>
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        # Address of the router that MetalLB connects to. It is not the address of the port that compute is enabled on, but one in the same subnet.
        [Parameter(Mandatory = $true)] [ipaddress] $PeerAddress,

        # AS number of the router: 1 to 65534, or 131072 to 4294967294.
        [Parameter(Mandatory = $true)] [uint32] $PeerAsn,

        # AS number of MetalLB: 1 to 65534, or 131072 to 4294967294.
        [Parameter(Mandatory = $true)] [uint32] $SelfAsn,

        # Name of the virtual switch, as Get-HcsExternalVirtualSwitch shows it.
        [Parameter(Mandatory = $true)] [string] $SwitchName,

        # Hold time to propose: 0 for none, or 3 to 65535. 90 unless given.
        [uint16] $HoldTimeInSeconds,

        # The router is in no subnet of the switch, but several hops away.
        [switch] $MultiHop
    )
    Invoke-Torline 'Set-HcsBGPPeer' $PSBoundParameters $false
}

function Get-HcsBGPPeers {
    <#
    .SYNOPSIS
    Lists the BGP peers of a virtual switch.
    .EXAMPLE
    Get-HcsBGPPeers -SwitchName vSwitch1
    #>
    [CmdletBinding()]
    param(
        # Name of the virtual switch, as Get-HcsExternalVirtualSwitch shows it.
        [Parameter(Mandatory = $true)] [string] $SwitchName,

        # Print JSON instead.
        [switch] $AsJson
    )
    Invoke-Torline 'Get-HcsBGPPeers' $PSBoundParameters (-not $AsJson)
}

function Remove-HcsBGPPeer {
    <#
    .SYNOPSIS
    Removes a BGP peer from a virtual switch; its session ends.
    .EXAMPLE
    Remove-HcsBGPPeer -PeerAddress 10.126.77.125 -SwitchName vSwitch1
    #>
    [CmdletBinding(SupportsShouldProcess = $true)]
    param(
        # Address of the router that MetalLB connects to. It is not the address of the port that compute is enabled on, but one in the same subnet.
        [Parameter(Mandatory = $true)] [ipaddress] $PeerAddress,

        # Name of the virtual switch, as Get-HcsExternalVirtualSwitch shows it.
        [Parameter(Mandatory = $true)] [string] $SwitchName
    )
    Invoke-Torline 'Remove-HcsBGPPeer' $PSBoundParameters $false
}

Export-ModuleMember -Function Get-HcsExternalVirtualSwitch, Set-HcsBGPPeer, Get-HcsBGPPeers, Remove-HcsBGPPeer
