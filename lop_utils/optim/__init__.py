"""Interventions: what keeps a network plastic, or is said to. Each composes with any torch optimizer in two lines.

    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    cbp = ContinualBackprop(optimizer, model, replacement_rate=1e-4, seed=0)

and training goes on as before; ``cbp.remove()`` ends it, and with ``state_dict()`` and
``load_state_dict()`` it goes on after a pause as if there had been none.
`model` is a network with unit spaces or a `models.stack.Stack` of them, whose members are treated one by one.

Redrawing units (all through `reset`): `continual_backprop`, `redo`, `self_normalized_resets`.
All weights: `shrink_perturb`, `weight_noise`, `l2_init`, `upgd`; the gradient: `gradient_noise`, `clip`, `sam`.
L2 is torch's own: ``weight_decay`` of SGD and Adam adds weight_decay theta to the gradient (under Adam it is divided by
the root of the second moment like every gradient), that of AdamW shrinks theta by 1 - lr weight_decay (decoupled).
Settings of the model: dropout, normalisation, leaky and concatenated ReLU (``MLPConfig(activation="crelu")``).
"""
