// The kubeconfig that the sandbox writes for its administrator.

export const CONTEXT = "mesh-sandbox";

export interface KubeconfigOptions {
  readonly port: number;
  /** PEM. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** YAML, in the form that kubectl itself writes. */
export function renderKubeconfig({ port, ca, cert, key }: KubeconfigOptions): string {
  const base64 = (pem: string) => Buffer.from(pem).toString("base64");
  return `apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority-data: ${base64(ca)}
    server: https://127.0.0.1:${port}
  name: ${CONTEXT}
contexts:
- context:
    cluster: ${CONTEXT}
    user: ${CONTEXT}
  name: ${CONTEXT}
current-context: ${CONTEXT}
preferences: {}
users:
- name: ${CONTEXT}
  user:
    client-certificate-data: ${base64(cert)}
    client-key-data: ${base64(key)}
`;
}
