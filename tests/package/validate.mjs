// Checks Kubernetes manifests against the schemas of @kubernetes-models: a JSON list of them on stdin, a JSON list of
// complaints on stdout.
import { readFileSync } from "node:fs";

// Where a kind's model lies: core and apps, scheduling.k8s.io, ... in kubernetes-models.
async function modelOf({ apiVersion, kind }) {
  const root = apiVersion.startsWith("monitoring.coreos.com/")
    ? "@kubernetes-models/prometheus-operator"
    : "kubernetes-models";
  return (await import(`${root}/${apiVersion}/${kind}`))[kind];
}

const complaints = [];
for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${manifest.kind} ${manifest.metadata.name}`;
  try {
    const Model = await modelOf(manifest);
    new Model(manifest).validate();
  } catch (error) {
    complaints.push(`${name}: ${error.message}`);
  }
}
console.log(JSON.stringify(complaints));
