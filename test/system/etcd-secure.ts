/** What a test's etcd needs to be reached by TLS alone, both ways, and by user and password. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { daysAgo } from './wall-clock.ts'

/** The certificates of a test cannot be made. */
export class CertificateError extends Error {
  override readonly name = 'CertificateError'
  readonly code = 'CERTIFICATE'
}

export const user = { name: 'midonet', password: 'correct-horse' } as const
export const root = { name: 'root', password: 'battery-staple' } as const

export class Secrets {
  readonly ca: string
  readonly cert: string
  readonly key: string

  /** Makes an authority, and one certificate for members at `address` and for their clients. */
  constructor(dir: string, address: string) {
    const file = (name: string): string => join(dir, name)
    this.ca = file('ca.crt')
    this.cert = file('etcd.crt')
    this.key = file('etcd.key')
    const extensions = file('extensions')
    writeFileSync(
      extensions,
      `subjectAltName=IP:${address}\nextendedKeyUsage=serverAuth,clientAuth\n`,
    )
    const elliptic = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const authority = ['-keyout', file('ca.key'), '-out', this.ca, '-subj', '/CN=test authority']
    openssl('req', '-x509', ...elliptic, ...authority, '-days', '4')
    const request = file('etcd.csr')
    openssl('req', ...elliptic, '-keyout', this.key, '-out', request, '-subj', '/CN=etcd')
    const signer = ['-CA', this.ca, '-CAkey', file('ca.key'), '-CAcreateserial', '-days', '4']
    openssl('x509', '-req', '-in', request, ...signer, '-extfile', extensions, '-out', this.cert)
  }

  /** For a member. */
  get options(): readonly string[] {
    const own = ['--cert-file', this.cert, '--key-file', this.key]
    // Tokens that end while the test runs, and passwords that are compared fast.
    const auth = ['--auth-token-ttl', '5', '--bcrypt-cost', '4']
    return [...own, '--client-cert-auth', '--trusted-ca-file', this.ca, ...auth]
  }

  /** For etcdctl. */
  get words(): readonly string[] {
    return ['--cacert', this.ca, '--cert', this.cert, '--key', this.key]
  }

  /** For an agent. */
  get settings(): Readonly<Record<string, string>> {
    return {
      MIDONET_STORE_CA: this.ca,
      MIDONET_STORE_CERT: this.cert,
      MIDONET_STORE_KEY: this.key,
      MIDONET_STORE_USER: user.name,
      MIDONET_STORE_PASSWORD: user.password,
    }
  }
}

function openssl(...words: readonly string[]): void {
  // From yesterday: a clock that is set back must not come before the certificates.
  const env = { ...process.env, ...daysAgo(1) }
  const { status, stderr } = spawnSync('openssl', words, { encoding: 'utf8', env })
  if (status !== 0) throw new CertificateError(`openssl ${words.join(' ')}: ${stderr}`)
}
