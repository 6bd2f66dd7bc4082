// Shell scripts that complete `kubectl-mesh` and `mesh` by asking the same executable that kubectl asks.

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** @param program path of bin/complete.js */
export function completionScript(shell: Shell, program: string): string {
  return SCRIPTS[shell].replaceAll("@PROGRAM@", `'${program.replaceAll("'", "'\\''")}'`);
}

const SCRIPTS: Record<Shell, string> = {
  bash: `# bash completion of kubectl-mesh
__kubectl_mesh_complete() {
  local out directive line
  out=$(@PROGRAM@ "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null) || return
  directive=\${out##*:}
  COMPREPLY=()
  while IFS= read -r line; do
    line=\${line%%$'\\t'*}
    [[ -n $line && $line != :* ]] && COMPREPLY+=("$line")
  done <<< "$out"
  if [[ $directive == 0 && \${#COMPREPLY[@]} == 0 ]]; then compopt -o default; fi
}
complete -F __kubectl_mesh_complete kubectl-mesh mesh
`,
  zsh: `#compdef kubectl-mesh mesh
# zsh completion of kubectl-mesh
__kubectl_mesh_complete() {
  local -a lines described
  lines=("\${(@f)$(@PROGRAM@ "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  local directive=\${lines[-1]#:}
  for line in "\${(@)lines[1,-2]}"; do described+=("\${line//$'\\t'/:}"); done
  if (( \${#described} )); then _describe 'kubectl mesh' described; elif [[ $directive == 0 ]]; then _files; fi
}
compdef __kubectl_mesh_complete kubectl-mesh mesh
`,
  fish: `# fish completion of kubectl-mesh
function __kubectl_mesh_complete
  set -l words (commandline -opc) (commandline -ct)
  @PROGRAM@ $words[2..-1] 2>/dev/null | string match -v -r '^:\\d+$'
end
for name in kubectl-mesh mesh
  complete -c $name -f -a '(__kubectl_mesh_complete)'
end
`,
};
