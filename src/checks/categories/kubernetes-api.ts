// Can we talk to the cluster at all, and is it one that the mesh works on?
import type { KubeObject } from "../../kube/types.ts";
import { type Category, expectNone } from "../check.ts";

/** Native sidecars, which the proxy is by default, are on from here. */
const MINIMUM = { major: 1, minor: 29 };

export const kubernetesApi: Category = {
  id: "kubernetes-api",
  checks: [
    {
      description: "can initialize the client",
      anchor: "k8s-api",
      fatal: true,
      run: async (context) => {
        await context.client();
      },
    },
    {
      description: "can query the Kubernetes API",
      anchor: "k8s-api",
      fatal: true,
      run: async (context) => {
        await (await context.client()).request("/version");
      },
    },
  ],
};

export const kubernetesVersion: Category = {
  id: "kubernetes-version",
  checks: [
    {
      description: "is running the minimum Kubernetes API version",
      anchor: "k8s-version",
      run: async (context) => {
        const version = (await (await context.client()).request("/version")) as { gitVersion?: string };
        const match = /^v(\d+)\.(\d+)/.exec(version.gitVersion ?? "");
        if (!match)
          throw new Error(`the API server's version ${JSON.stringify(version.gitVersion)} is not known`);
        const [major, minor] = [Number(match[1]), Number(match[2])];
        if (major < MINIMUM.major || (major === MINIMUM.major && minor < MINIMUM.minor)) {
          throw new Error(
            `Kubernetes is on version ${version.gitVersion}, but version ${MINIMUM.major}.${MINIMUM.minor} or more recent is required`,
          );
        }
      },
    },
  ],
};

interface Definition extends KubeObject {
  spec: { versions: { name: string; served: boolean }[] };
}

const GATEWAY_CRDS = ["httproutes.gateway.networking.k8s.io", "grpcroutes.gateway.networking.k8s.io"];

export const gatewayApiCrd: Category = {
  id: "gateway-api-crd",
  checks: [
    {
      description: "Gateway API CRDs are installed",
      anchor: "gateway-api-crd",
      warning: true,
      run: async (context) => {
        const crds = await Promise.all(
          GATEWAY_CRDS.map((name) =>
            context.find<Definition>("apiextensions.k8s.io/v1", "CustomResourceDefinition", name),
          ),
        );
        expectNone(
          GATEWAY_CRDS.filter(
            (_, index) => !crds[index]?.spec.versions.some(({ name, served }) => name === "v1" && served),
          ),
          "not there, or version v1 is not served",
        );
      },
    },
  ],
};
