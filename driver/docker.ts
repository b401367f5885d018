/** The little of Docker's API that reconciling needs. Never called from inside a driver call. */

/** An endpoint as Docker knows it. */
export interface DockerEndpoint {
  readonly id: string
  /** Container name; the endpoint's own id when no container has it yet. */
  readonly container: string
  readonly addresses: readonly string[]
}

/** A network as Docker knows it, with what uses its addresses. */
export interface DockerNetwork {
  readonly id: string
  readonly name: string
  readonly driver: string
  readonly ipamDriver: string
  readonly subnets: readonly string[]
  /** Gateways and auxiliary addresses. */
  readonly reserved: readonly string[]
  readonly endpoints: readonly DockerEndpoint[]
}

/** What Docker has, as far as it is ours: networks by our driver or with our IPAM. */
export interface DockerView {
  /** @throws DockerError when Docker cannot be asked, or answers nonsense */
  networks(): Promise<readonly DockerNetwork[]>
  /** Calls `changed` whenever Docker may have changed a network. Returns the way to stop. */
  watch(changed: () => void): () => void
}
