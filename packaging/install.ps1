<#
.SYNOPSIS
Installs gem-setup @VERSION@ for one user of Windows.
.DESCRIPTION
    irm @DOWNLOADS@/install.ps1 | iex
    & ([scriptblock]::Create((irm @DOWNLOADS@/install.ps1))) -- install --runtime builtin
Checks the archive's SHA-256 and, where minisign is installed, the signature of the list of hashes. Needs no administrator.
#>
[CmdletBinding(PositionalBinding = $false)]
param(
    # Where the program goes.
    [string] $To = (Join-Path $env:LOCALAPPDATA 'Programs\gem-setup'),
    # Where the archive and SHA256SUMS are: an https URL or a directory.
    [string] $Base = '@DOWNLOADS@',
    # The arguments for gem-setup itself.
    [Parameter(ValueFromRemainingArguments)] [string[]] $Arguments
)
# `iex` runs this in the caller's scope: the block keeps strictness and preferences from the caller.
& {
    $ErrorActionPreference = 'Stop'
    Set-StrictMode -Version 3
    $ProgressPreference = 'SilentlyContinue'

    $Key = '@PUBLIC_KEY@'
    $Archive = 'gem-setup-windows-x86_64.zip'
    if (-not [Environment]::Is64BitOperatingSystem) { throw 'gem-setup needs a 64-bit Windows' }

    $Work = Join-Path ([IO.Path]::GetTempPath()) ([Guid]::NewGuid())
    New-Item -ItemType Directory -Path $Work | Out-Null
    try {
        function Get-Part([string] $Name) {
            $File = Join-Path $Work $Name
            if ($Base -match '^https://') {
                [Net.ServicePointManager]::SecurityProtocol = [Net.ServicePointManager]::SecurityProtocol -bor [Net.SecurityProtocolType]::Tls12
                Invoke-WebRequest -UseBasicParsing -Uri "$Base/$Name" -OutFile $File
            } elseif (Test-Path -LiteralPath $Base -PathType Container) {
                Copy-Item -LiteralPath (Join-Path $Base $Name) -Destination $File
            } else {
                throw "cannot download from ``$Base``: name an https URL or a directory with -Base"
            }
            $File
        }

        $Sums = Get-Part 'SHA256SUMS'
        $Package = Get-Part $Archive
        if ($Key -and (Get-Command minisign -ErrorAction SilentlyContinue)) {
            Get-Part 'SHA256SUMS.minisig' | Out-Null
            minisign -V -q -P $Key -m $Sums
            if ($LASTEXITCODE -ne 0) { throw "the signature of $Base/SHA256SUMS is wrong: do not use these files" }
        }
        if (Get-Content -LiteralPath $Sums | Where-Object { $_ -notmatch '^[0-9a-f]{64}\s+\S' }) { throw "$Base/SHA256SUMS is not a list of checksums: a login page or a proxy may have answered" }
        $Line = Get-Content -LiteralPath $Sums | Where-Object { $_ -match "\s\*?$([regex]::Escape($Archive))$" }
        if (-not $Line) { throw "$Base/SHA256SUMS does not name $Archive" }
        $Expected = ($Line -split '\s+')[0]
        $Found = (Get-FileHash -LiteralPath $Package -Algorithm SHA256).Hash
        if ($Found -ne $Expected) { throw "$Base/$Archive has the SHA-256 $Found, not $Expected" }

        Expand-Archive -LiteralPath $Package -DestinationPath (Join-Path $Work 'files')
        # One that does not run leaves one that does.
        $Version = & (Join-Path $Work 'files\gem-setup.exe') version
        if ($LASTEXITCODE -ne 0) { throw 'gem-setup does not run on this machine; nothing was changed' }
        New-Item -ItemType Directory -Force -Path $To | Out-Null
        $Program = Join-Path $To 'gem-setup.exe'
        # Windows replaces no program that runs, but renames it.
        if (Test-Path -LiteralPath $Program) {
            Remove-Item -LiteralPath "$Program.old" -Force -ErrorAction SilentlyContinue
            Move-Item -LiteralPath $Program -Destination "$Program.old" -Force
        }
        Copy-Item -LiteralPath (Join-Path $Work 'files\gem-setup.exe') -Destination $Program
        # Not beside the program: PowerShell runs a script rather than a program of the same name.
        $Completions = Join-Path $To 'completions'
        New-Item -ItemType Directory -Force -Path $Completions | Out-Null
        Copy-Item -LiteralPath (Join-Path $Work 'files\completions\gem-setup.ps1') -Destination $Completions -Force
    } finally {
        Remove-Item -LiteralPath $Work -Recurse -Force
    }

    $Path = [Environment]::GetEnvironmentVariable('Path', 'User')
    if (($Path -split ';') -notcontains $To) {
        [Environment]::SetEnvironmentVariable('Path', (@($Path, $To) | Where-Object { $_ }) -join ';', 'User')
        Write-Host "added $To to your PATH: new terminals have it"
    }
    $env:Path = "$To;$env:Path"
    Write-Host "installed $Version as $Program"
    Write-Host "for completions add to your `$PROFILE: . '$Completions\gem-setup.ps1'"
    if ($Arguments) { & $Program @Arguments }
}
