#!/bin/sh
# Makes this machine a worker of an Octaskly cluster, or removes it again (--uninstall).
# Needs Python 3.11 to 3.13 and curl; writes below ~/.local only, or below --dir.
set -eu

OFFERED='@OFFERED@'

main() {
  folder=$(mktemp -d "${TMPDIR:-/tmp}/octaskly-join.XXXXXX")
  trap 'rm -rf "$folder"' EXIT
  cat >"$folder/tag.py" <<'OCTASKLY_END'
@TAG_PY@
OCTASKLY_END
  cat >"$folder/installer.py" <<'OCTASKLY_END'
@INSTALLER_PY@
OCTASKLY_END
  seen=
  for python in ${OCTASKLY_PYTHON:-python3.13 python3.12 python3.11 python3}; do
    tag=$("$python" -I -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null &&
      "$python" -I "$folder/tag.py") || continue
    offer=$(offer_for "$tag")
    if [ -n "$offer" ]; then
      trap - EXIT # The installer removes the folder: exec leaves nobody else to do it.
      exec "$python" -I "$folder/installer.py" "$offer" "$tag" "$@"
    fi
    seen="$seen $tag"
  done
  if [ -z "$seen" ]; then
    echo "octaskly: Python 3.11, 3.12 or 3.13 is needed, and none of them is on the path" >&2
  else
    echo "octaskly: the dispatcher has no bundle for this machine ($(echo $seen | tr ' ' '\n' | sort -u | tr '\n' ' '))" >&2
    echo "octaskly: it has: $OFFERED" >&2
    echo "octaskly: on its machine, make what is missing with: python manage.py workerbundle --help" >&2
  fi
  exit 1
}

offer_for() {
  case $1 in
@CASES@
  esac
}

main "$@"
