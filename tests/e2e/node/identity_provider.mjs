// A certified OpenID provider on loopback: node identity_provider.mjs PORT. Says `up` once it listens.
// Its clients get access tokens for themselves; what they are entitled to stands in the claim `groups`.
import { generateKeyPairSync } from "node:crypto";
import Provider from "oidc-provider";

const issuer = `http://127.0.0.1:${process.argv[2]}`;
const secret = "a-secret-of-the-tests-that-is-long-enough";
const groups = { admin: ["gateway-admins", "everybody"], reader: ["everybody"] };
const key = (type, options) => generateKeyPairSync(type, options).privateKey.export({ format: "jwk" });

const provider = new Provider(issuer, {
  clients: ["admin", "reader", "ci"].map((name) => ({
    client_id: name,
    client_secret: secret,
    grant_types: ["client_credentials"],
    redirect_uris: [],
    response_types: [],
  })),
  jwks: {
    keys: [
      { ...key("rsa", { modulusLength: 2048 }), kid: "first", use: "sig", alg: "RS256" },
      { ...key("ec", { namedCurve: "P-256" }), kid: "second", use: "sig", alg: "ES256" },
    ],
  },
  cookies: { keys: ["tests"] },
  extraTokenClaims: (_, token) => ({ groups: groups[token.clientId] }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: "gateway",
        audience: resource,
        accessTokenFormat: resource.endsWith("opaque") ? "opaque" : "jwt",
        accessTokenTTL: 300,
      }),
    },
  },
});
provider.listen(Number(process.argv[2]), "127.0.0.1", () => console.log("up"));
