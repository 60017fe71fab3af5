# Makes this machine a worker of an Octaskly cluster, or removes it again (--uninstall).
# Needs Python 3.11 to 3.13 and curl.exe; writes below the local application data only, or below --dir.
$ErrorActionPreference = 'Stop'
$offers = @{
@CASES@
}
$folder = Join-Path ([IO.Path]::GetTempPath()) ('octaskly-join.' + [Guid]::NewGuid())
New-Item -ItemType Directory -Path $folder | Out-Null
Set-Content -Encoding ascii -Path "$folder\tag.py" -Value @'
@TAG_PY@
'@
Set-Content -Encoding ascii -Path "$folder\installer.py" -Value @'
@INSTALLER_PY@
'@
$seen = @()
foreach ($version in '-3.13', '-3.12', '-3.11') {
  $tag = & py $version -I "$folder\tag.py" 2>$null
  if ($LASTEXITCODE -ne 0) { continue }
  if ($offers.ContainsKey($tag)) {
    # Windows PowerShell drops double quotes from arguments, unless they are escaped.
    & py $version -I "$folder\installer.py" $offers[$tag].Replace('"', '\"') $tag @args
    exit $LASTEXITCODE
  }
  $seen += $tag
}
Remove-Item -Recurse $folder
if ($seen.Count -eq 0) {
  Write-Error 'octaskly: Python 3.11, 3.12 or 3.13 is needed, and the launcher py finds none of them'
} else {
  Write-Error "octaskly: the dispatcher has no bundle for $seen; it has @OFFERED@. On its machine: python manage.py workerbundle --help"
}
exit 1
